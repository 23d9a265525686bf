"""The page of ``python -m pipeline serve``: drop a photo, see its mask.

``GET /`` is the page, ``POST /segment`` takes the bytes of one photo and answers in JSON. The page
loads nothing from elsewhere, and nothing that it is given is kept. Who may ask is in `web_guard`,
how many at once and for how long in `web_server`; how much memory photos may take is here.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import threading
from collections.abc import Iterator
from importlib import resources

import anyio
import fastapi
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from pipeline.core import features, images
from pipeline.core.errors import UserError
from pipeline.inference import photo_jobs, web_server
from pipeline.inference.segmenter import (
    NO_MEMORY,
    ImageError,
    Predictor,
    decode_photo,
    header,
    native_noise_held_back,
    orientation_note,
    shares,
)
from pipeline.inference.web_guard import Guard

MOST_BYTES = 50_000_000  # of a photo
_SILENCE_S = 2  # after which who announced a larger one is answered
_MOST_BYTES_IN_ALL = 4 * MOST_BYTES  # of all that are received or wait
_LARGE = photo_jobs.BATCH_PIXELS
_SMALL_AT_ONCE = 2  # and beside them one that is larger
_LONGEST_JPEG = 65_500  # pixels of a side


def listen(host: str, port: int) -> socket.socket:
    """Takes a port, 0 for any free one, at an IPv4 or IPv6 address or a name.

    Raises:
      UserError: if it cannot be had.
    """
    if not 0 <= port < 2**16:
        raise UserError(f"There is no port {port}; give one from 0 to {2**16 - 1}, 0 for any.")
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
        family, _, _, _, (name, _, *scope) = found[0]
        everywhere = name == "::" and socket.has_dualstack_ipv6()
        address = (name, port, *scope)
        return socket.create_server(address, family=family, dualstack_ipv6=everywhere)
    except (OSError, OverflowError, UnicodeError) as error:
        code = getattr(error, "errno", None) or 0
        # `create_server` adds the address, which the sentence has already.
        what = os.strerror(code) if code > 0 else getattr(error, "strerror", None) or error
        raise UserError(
            f"The page cannot be shown on {host}, port {port} ({what}); give another --port or"
            " --host."
        ) from error


def address_of(listener: socket.socket) -> str:
    """Where a browser on this machine finds the page."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(segmenter: Predictor, listener: socket.socket, host: str) -> None:
    """Serves the page on a listening socket, under the name `host`, until SIGINT or SIGTERM."""
    bound = listener.getsockname()[0].partition("%")[0]
    local = ipaddress.ip_address(bound).is_loopback
    web_server.run(Guard(create_app(segmenter), host.strip("[]"), local), listener)


class _Busy(Exception):
    """More photos at once than memory allows."""


class _Uploads:
    """The photos that are in memory, encoded; bounded all together."""

    def __init__(self) -> None:
        self._size = 0  # bytes; changed on the event loop alone

    @contextlib.contextmanager
    def one(self) -> Iterator[bytearray]:
        """A buffer for one of them."""
        contents = bytearray()
        try:
            yield contents
        finally:
            self._size -= len(contents)
            contents.clear()

    def add(self, contents: bytearray, chunk: bytes) -> None:
        """Adds to the buffer; raises `_Busy` if there is no room."""
        if self._size + len(chunk) > _MOST_BYTES_IN_ALL:
            raise _Busy
        self._size += len(chunk)
        contents += chunk

    async def receive(self, request: fastapi.Request, contents: bytearray) -> bool:
        """Fills the buffer with the body; whether it is short enough. A longer one is not kept."""
        length = request.headers.get("content-length", "")
        fits = not length.isdecimal() or int(length) <= MOST_BYTES
        stream = request.stream()
        while True:
            # Who is refused at the first byte may not read that while sending; but who is silent
            # then waits for an answer.
            chunk = None
            with anyio.move_on_after(None if fits else _SILENCE_S):
                chunk = await anext(stream, None)
            if chunk is None:
                return fits
            fits = fits and len(contents) + len(chunk) <= MOST_BYTES
            if fits:
                self.add(contents, chunk)


def create_app(segmenter: Predictor) -> fastapi.FastAPI:
    """The application, without its guard.

    ``POST /segment`` answers 200 with ``width`` and ``height`` (pixels), ``shares`` (by class name)
    and three data URIs: ``mask`` (PNG, trimap values), ``picture`` (PNG, the mask in colours) and
    ``overlay`` (JPEG), all of the photo's size as the model saw it; ``note``, a sentence, if it has
    an EXIF orientation that the model does not honour, else null; 413, 422 or 503 with ``error``,
    one sentence, if it cannot. So do 404 and 405, for whatever else is asked.
    """
    app = fastapi.FastAPI(openapi_url=None)
    page = _page()
    one_at_a_time = threading.Lock()
    uploads = _Uploads()
    # A small photo need not wait for a large one.
    lanes = {True: anyio.CapacityLimiter(1), False: anyio.CapacityLimiter(_SMALL_AT_ONCE)}

    def answer(contents: bytes) -> JSONResponse:
        with one_at_a_time, native_noise_held_back():
            photo = decode_photo(contents, segmenter.exif)
            try:
                (prediction,) = segmenter.predict([contents])
            except ImageError:
                del photo  # the traceback, which may live on for long, would keep it
                raise
        ids = images.mask_at_size(prediction.probabilities, *photo.shape[:2])
        overlay = ("JPEG", {"quality": 90}) if max(ids.shape) <= _LONGEST_JPEG else ("PNG", {})
        note = orientation_note(contents, segmenter.exif)
        return JSONResponse(
            {
                "note": f"{note[0].upper()}{note[1:]}." if note else None,
                "width": photo.shape[1],
                "height": photo.shape[0],
                "shares": shares(ids),
                "mask": images.data_uri(images.to_trimap(ids), "PNG"),
                "picture": images.data_uri(images.colour_mask(ids), "PNG"),
                "overlay": images.data_uri(images.overlay(photo, ids), overlay[0], **overlay[1]),
            }
        )

    @app.exception_handler(HTTPException)
    async def refuse(request: fastapi.Request, error: HTTPException) -> JSONResponse:
        text = (
            f"There is nothing at {request.url.path}"
            if error.status_code == 404
            else (f"{request.url.path} does not take {request.method}")
        )
        text += "; get / for the page, post a photo to /segment."
        return JSONResponse({"error": text}, error.status_code, error.headers)

    @app.get("/")
    async def index() -> HTMLResponse:
        return HTMLResponse(page)

    @app.post("/segment")
    async def segment(request: fastapi.Request) -> Response:
        if request.headers.get("content-type", "").startswith("multipart/"):
            text = "Send the bytes of the photo as they are, without a form (curl --data-binary)."
            return JSONResponse({"error": text}, 422)
        try:
            with uploads.one() as buffer:
                if not await uploads.receive(request, buffer):
                    text = (
                        f"This photo is larger than {MOST_BYTES // 10**6} MB; give a smaller one."
                    )
                    return JSONResponse({"error": text}, 413)
                contents = bytes(buffer)
                head = await run_in_threadpool(header, contents)
                async with lanes[head.pixels > _LARGE]:
                    if await request.is_disconnected():
                        raise ClientDisconnect
                    return await run_in_threadpool(answer, contents)
        except ImageError as error:
            return JSONResponse({"error": f"This photo cannot be segmented: {error}."}, 422)
        except MemoryError:
            return JSONResponse({"error": f"This photo cannot be segmented: {NO_MEMORY}."}, 503)
        except (_Busy, OSError):  # OSError: no more files may be opened
            text = "Too many photos are here at once; try again in a moment."
            return JSONResponse({"error": text}, 503)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it

    return app


def _page() -> str:
    page = (resources.files("pipeline.inference") / "templates" / "web.html").read_text(
        encoding="utf-8"
    )
    colours = "".join(
        f'<li><span style="background: {images.hex_colour(colour)}"></span>{name}</li>'
        for name, colour in zip(features.CLASS_NAMES, images.COLOURS, strict=True)
    )
    return page.replace("<!-- classes -->", colours)
