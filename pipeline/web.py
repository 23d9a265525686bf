"""The page of ``python -m pipeline.predict --serve``: drop a photo, see its mask.

``GET /`` is the page, ``POST /segment`` takes the bytes of one photo and answers in JSON. The page
loads nothing from elsewhere, and nothing that it is given is kept.
"""

from __future__ import annotations

import socket
import threading
from importlib import resources
from typing import Any

import fastapi
import uvicorn
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse

from pipeline import features, images
from pipeline.errors import UserError
from pipeline.segmenter import (
    ImageError,
    Segmenter,
    decode_photo,
    native_noise_held_back,
    shares,
)

MOST_BYTES = 50_000_000  # of a photo
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; connect-src 'self';"
    " style-src 'unsafe-inline'; script-src 'unsafe-inline'"
}


def listen(host: str, port: int) -> socket.socket:
    """Takes a port, 0 for any free one.

    Raises:
      UserError: if it cannot be had.
    """
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        what = getattr(error, "strerror", None) or error
        raise UserError(
            f"The page cannot be shown on {host}, port {port} ({what}); give another --port or"
            " --host."
        ) from error


def serve(segmenter: Segmenter, listener: socket.socket) -> None:
    """Serves the page on a listening socket until SIGINT or SIGTERM."""
    config = uvicorn.Config(create_app(segmenter), log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])


def create_app(segmenter: Segmenter) -> fastapi.FastAPI:
    """The application.

    ``POST /segment`` answers 200 with ``width`` and ``height`` (pixels), ``shares`` (by class name)
    and three data URIs: ``mask`` (PNG, trimap values), ``picture`` (PNG, the mask in colours) and
    ``overlay`` (JPEG), all of the photo's size; 413 or 422 with ``error``, one sentence, if it
    cannot.
    """
    app = fastapi.FastAPI(openapi_url=None)
    page = (resources.files("pipeline") / "templates" / "web.html").read_text(encoding="utf-8")
    one_at_a_time = threading.Lock()

    def answer(contents: bytes) -> dict[str, Any]:
        with one_at_a_time, native_noise_held_back():
            photo = decode_photo(contents)
            (prediction,) = segmenter.predict([contents])
        ids = images.mask_at_size(prediction.probabilities, *photo.shape[:2])
        return {
            "width": photo.shape[1],
            "height": photo.shape[0],
            "shares": shares(ids),
            "mask": images.data_uri(images.to_trimap(ids), "PNG"),
            "picture": images.data_uri(images.colour_mask(ids), "PNG"),
            "overlay": images.data_uri(images.overlay(photo, ids), "JPEG", quality=90),
        }

    @app.get("/")
    def index() -> HTMLResponse:
        colours = "".join(
            f'<li><span style="background: {images.hex_colour(colour)}"></span>{name}</li>'
            for name, colour in zip(features.CLASS_NAMES, images.COLOURS, strict=True)
        )
        return HTMLResponse(page.replace("<!-- classes -->", colours), headers=_HEADERS)

    @app.post("/segment")
    async def segment(request: fastapi.Request) -> JSONResponse:
        if request.headers.get("content-type", "").startswith("multipart/"):
            text = "Send the bytes of the photo as they are, without a form (curl --data-binary)."
            return JSONResponse({"error": text}, 422)
        contents = bytearray()
        async for chunk in request.stream():
            contents += chunk
            if len(contents) > MOST_BYTES:
                text = f"This photo is larger than {MOST_BYTES // 10**6} MB; give a smaller one."
                return JSONResponse({"error": text}, 413)
        try:
            return JSONResponse(await run_in_threadpool(answer, bytes(contents)))
        except ImageError as error:
            return JSONResponse({"error": f"This photo cannot be segmented: {error}."}, 422)

    return app
