"""The page of ``python -m pipeline serve`` in this process, with a model that answers on demand."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import uvicorn

from pipeline.inference import segmenter, web
from pipeline.saved_model import contract


class Slow:
    """A model that answers once `may` is set."""

    path = Path("model")
    exif = contract.AS_STORED

    def __init__(self) -> None:
        self.may, self.asked = threading.Event(), threading.Event()

    def predict(self, photos: Sequence[bytes]) -> list[segmenter.Prediction]:
        self.asked.set()
        assert self.may.wait(60)
        one = np.full((8, 8, 3), 1 / 3, np.float32)
        return [segmenter.Prediction(np.zeros((8, 8), np.uint8), one) for _ in photos]


@contextlib.contextmanager
def shown(model: Slow) -> Iterator[str]:
    """Serves the page of a model; yields its address."""
    with web.listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(web.create_app(model), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield web.address_of(listener)
        finally:
            server.should_exit = True
            thread.join()
