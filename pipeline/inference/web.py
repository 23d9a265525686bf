"""The page of ``python -m pipeline serve``: drop a photo, see its mask.

``GET /`` returns the page. ``POST /segment`` takes the bytes of one photo and returns JSON. The
page loads nothing from other hosts, and no photo is stored. `web_guard` decides who may send
requests, `web_server` limits connections and their duration, and this module limits memory.
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

MAX_BYTES = 50_000_000  # of a photo
_SILENCE_S = 2  # after such a pause, refuse a photo that is too large without waiting for the rest
_MAX_TOTAL_BYTES = 4 * MAX_BYTES  # of all photos that are being received or waiting
_LARGE = photo_jobs.BATCH_PIXELS
_SMALL_AT_ONCE = 2  # small photos processed at once, in addition to one large photo
_MAX_JPEG_SIDE = 65_500  # pixels


def listen(host: str, port: int) -> socket.socket:
    """Opens a listening socket at an IPv4 or IPv6 address or a host name.

    Args:
      host: the address or name.
      port: the port; 0 for any free one.

    Raises:
      UserError: if the port or the address cannot be used.
    """
    if not 0 <= port < 2**16:
        raise UserError(
            f"{port} is not a valid port. Choose one from 1 to {2**16 - 1}, or 0 for any free port."
        )
    try:
        addresses = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
        family, _, _, _, (name, _, *scope) = addresses[0]
        dual_stack = name == "::" and socket.has_dualstack_ipv6()
        address = (name, port, *scope)
        return socket.create_server(address, family=family, dualstack_ipv6=dual_stack)
    except (OSError, OverflowError, UnicodeError) as error:
        code = getattr(error, "errno", None) or 0
        # The text of `create_server` would repeat the address.
        reason = os.strerror(code) if code > 0 else getattr(error, "strerror", None) or error
        raise UserError(
            f"The page cannot be served at {host}, port {port} ({reason}). Choose another --port"
            " or --host."
        ) from error


def address_of(listener: socket.socket) -> str:
    """The URL of the page for a browser on this machine."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(segmenter: Predictor, listener: socket.socket, host: str) -> None:
    """Serves the page on a listening socket, as ``host``, until SIGINT or SIGTERM."""
    bound = listener.getsockname()[0].partition("%")[0]
    local = ipaddress.ip_address(bound).is_loopback
    web_server.run(Guard(create_app(segmenter), host.strip("[]"), local), listener)


class _Busy(Exception):
    """Too many photos are in memory."""


class _Uploads:
    """The encoded photos in memory, with a limit on their total size."""

    def __init__(self) -> None:
        self._size = 0  # bytes; changed only on the event loop

    @contextlib.contextmanager
    def one(self) -> Iterator[bytearray]:
        """Yields a buffer for one photo."""
        contents = bytearray()
        try:
            yield contents
        finally:
            self._size -= len(contents)
            contents.clear()

    def add(self, contents: bytearray, chunk: bytes) -> None:
        """Appends to the buffer; raises `_Busy` if the total would exceed the limit."""
        if self._size + len(chunk) > _MAX_TOTAL_BYTES:
            raise _Busy
        self._size += len(chunk)
        contents += chunk

    async def receive(self, request: fastapi.Request, contents: bytearray) -> bool:
        """Reads the body into the buffer; returns False, and drops the rest, if it is too large."""
        length = request.headers.get("content-length", "")
        fits = not length.isdecimal() or int(length) <= MAX_BYTES
        stream = request.stream()
        while True:
            # Many clients read the response only after sending the whole body, so an oversized body
            # is read and dropped. A client that pauses is waiting for the response.
            chunk = None
            with anyio.move_on_after(None if fits else _SILENCE_S):
                chunk = await anext(stream, None)
            if chunk is None:
                return fits
            fits = fits and len(contents) + len(chunk) <= MAX_BYTES
            if fits:
                self.add(contents, chunk)


def create_app(segmenter: Predictor) -> fastapi.FastAPI:
    """Builds the application, without its guard.

    ``POST /segment`` returns 200 with ``width`` and ``height`` (pixels), ``shares`` (0 to 1, by
    class name), ``note`` (a sentence if the model ignores the photo's EXIF orientation, else null)
    and three data URIs at the photo's size as the model saw it: ``mask`` (PNG, trimap values),
    ``picture`` (PNG, the mask in colours) and ``overlay`` (JPEG).

    Errors are 413, 422 or 503 for a photo and 404 or 405 for other requests, with ``error``, a
    sentence.
    """
    app = fastapi.FastAPI(openapi_url=None)
    page = _page()
    one_at_a_time = threading.Lock()
    uploads = _Uploads()
    # Separate limits, so that a small photo need not wait for a large one.
    limiters = {True: anyio.CapacityLimiter(1), False: anyio.CapacityLimiter(_SMALL_AT_ONCE)}

    def answer(contents: bytes) -> JSONResponse:
        with one_at_a_time, native_noise_held_back():
            photo = decode_photo(contents, segmenter.exif)
            try:
                (prediction,) = segmenter.predict([contents])
            except ImageError:
                del photo  # the traceback can live long, and would keep the pixels in memory
                raise
        ids = images.mask_at_size(prediction.probabilities, *photo.shape[:2])
        overlay = ("JPEG", {"quality": 90}) if max(ids.shape) <= _MAX_JPEG_SIDE else ("PNG", {})
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
            f"{request.url.path} does not exist."
            if error.status_code == 404
            else f"{request.url.path} does not accept {request.method}."
        )
        text += " Use GET / for the page and POST /segment for a photo."
        return JSONResponse({"error": text}, error.status_code, error.headers)

    @app.get("/")
    async def index() -> HTMLResponse:
        return HTMLResponse(page)

    @app.post("/segment")
    async def segment(request: fastapi.Request) -> Response:
        if request.headers.get("content-type", "").startswith("multipart/"):
            text = "Send the bytes of the photo as the request body, not as a form."
            text += " With curl, use --data-binary @FILE."
            return JSONResponse({"error": text}, 422)
        try:
            with uploads.one() as buffer:
                if not await uploads.receive(request, buffer):
                    text = (
                        f"This photo is larger than {MAX_BYTES // 10**6} MB. Choose a smaller one."
                    )
                    return JSONResponse({"error": text}, 413)
                contents = bytes(buffer)
                head = await run_in_threadpool(header, contents)
                async with limiters[head.pixels > _LARGE]:
                    if await request.is_disconnected():
                        raise ClientDisconnect
                    return await run_in_threadpool(answer, contents)
        except ImageError as error:
            return JSONResponse({"error": f"This photo cannot be segmented: {error}."}, 422)
        except MemoryError:
            return JSONResponse({"error": f"This photo cannot be segmented: {NO_MEMORY}."}, 503)
        except (_Busy, OSError):  # OSError: the process has too many open files
            text = "The server is busy with too many photos. Try again in a moment."
            return JSONResponse({"error": text}, 503)
        except ClientDisconnect:
            return Response(status_code=499)  # the client is gone; the code is nginx's

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
