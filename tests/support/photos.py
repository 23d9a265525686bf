"""Photos for tests: a drawing with all three classes, and a PNG of any size."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def png(width: int, height: int) -> bytes:
    """A sound grey PNG of one colour, made row by row; some kilobytes, whatever its size."""
    squeezed = zlib.compressobj(9)
    rows = [squeezed.compress(bytes(1 + width)) for _ in range(height)]
    data = b"".join([*rows, squeezed.flush()])
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(each)) + kind + each + struct.pack(">I", zlib.crc32(kind + each))
        for kind, each in chunks
    )


def drawing(width: int, height: int) -> NDArray[Any]:
    """A photo, uint8 [height, width, 3]: bright, a dark square with a grey frame in its middle."""
    photo = np.full((height, width, 3), 235, np.uint8)
    photo[height // 4 : -height // 4, width // 4 : -width // 4] = 128
    photo[height // 3 : -height // 3, width // 3 : -width // 3] = 20
    return photo


def save_photo(path: Path, width: int = 320, height: int = 240, **options: Any) -> Path:
    Image.fromarray(drawing(width, height)).save(path, **options)
    return path


def load_mask(path: Path) -> NDArray[Any]:
    with Image.open(path) as mask:
        assert mask.mode == "L"
        return np.asarray(mask)


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """An image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()
