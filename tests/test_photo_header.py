"""What is refused by a photo's header, undecoded, and how it is told."""

from __future__ import annotations

import struct

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from pipeline.data import photo_header, preprocessing
from tests.support.photos import encoded, png

BLACK = PIL.Image.new("RGB", (30, 20))


def sized(contents: bytes, at: int, order: str, width: int, height: int) -> bytes:
    """The same file with another size in its header."""
    return (
        contents[:at] + struct.pack(order, width, height) + contents[at + struct.calcsize(order) :]
    )


def jpeg_of(width: int, height: int) -> bytes:
    contents = encoded(BLACK, "JPEG")
    return sized(contents, contents.index(b"\xff\xc0") + 5, ">HH", height, width)


GIF = encoded(PIL.Image.new("P", (30, 20)), "GIF")
FRAME = GIF.index(b"\x2c") + 5
LARGE = {
    "png": png(10_000, 6_000),
    "jpeg": jpeg_of(60_000, 60_000),
    "gif-screen": sized(GIF, 6, "<HH", 60_000, 60_000),
    "gif-frame": sized(GIF, FRAME, "<HH", 60_000, 60_000),
    "bmp": sized(encoded(BLACK, "BMP"), 18, "<ii", 60_000, -60_000),
}


@pytest.mark.parametrize("contents", LARGE.values(), ids=LARGE.keys())
def test_oversized_photos_are_reported_with_their_size(contents: bytes) -> None:
    with pytest.raises(photo_header.HeaderError, match=r"it is \d+x\d+ pixels, more than 50 mega"):
        photo_header.read(contents)


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif-screen", "gif-frame"])
def test_the_graph_of_a_release_refuses_it_too(kind: str) -> None:
    """Servers know nothing of this pipeline; `serving_png` calls such a photo invalid."""
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 50 megapixels"):
        preprocessing.decode_image(tf.constant(LARGE[kind]))
    good = encoded(BLACK, "PNG")
    _, valid = preprocessing.attempt_each(
        lambda each: preprocessing.resize_image(preprocessing.decode_image(each), 8),
        tf.constant([good, LARGE[kind], good]),
        [8, 8, 3],
    )
    assert valid.numpy().tolist() == [True, False, True]


def test_the_threshold_itself_passes() -> None:
    header = photo_header.read(png(10_000, 5_000))
    assert (header.format, header.width, header.height) == ("PNG", 10_000, 5_000)


def test_many_frames_and_many_scans_are_bombs_too() -> None:
    frame = GIF[GIF.index(b"\x2c") : -1]
    large = sized(frame, 5, "<HH", 5_000, 5_000)
    photo_header.read(GIF[:-1] + large * 5 + b";")
    bomb = GIF[:-1] + large * 7 + b";"
    with pytest.raises(photo_header.HeaderError, match="more than 150 megapixels in total"):
        photo_header.read(bomb)
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 50 megapixels"):
        preprocessing.decode_image(tf.constant(bomb))
    assert preprocessing.decode_image(tf.constant(GIF)).shape == (20, 30, 3)
    with pytest.raises(photo_header.HeaderError, match="too many blocks"):
        photo_header.read(GIF[:-1] + frame[:11] + b"\x01\x00" * 3_000_000 + b"\0;")
    noise = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    progressive = encoded(noise, "JPEG", progressive=True)
    scan = progressive.rindex(b"\xff\xda")
    photo_header.read(progressive + b"\xff\xda" * 300)  # telephones append films
    bomb = progressive[:-2] + progressive[scan:-2] * 300 + progressive[-2:]
    comment = b"\xff\xfe\0\x04\xff\xd9"  # an end that is none
    for hidden in (
        bomb,
        bomb[:2] + b"\xff" + bomb[2:],
        bomb[:scan] + comment + bomb[scan:],
    ):
        with pytest.raises(photo_header.HeaderError, match="scans"):
            photo_header.read(hidden)


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [
        (b"", "the file is empty"),
        (b"no image", "not a JPEG, PNG, GIF or BMP image, or a damaged one"),
        (encoded(BLACK, "WEBP"), "this is a WebP file; save it as JPEG, PNG, GIF or BMP"),
        (encoded(BLACK, "TIFF"), "this is a TIFF file"),
        (encoded(BLACK, "ICO"), "this is an ICO file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "this is a HEIC file"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "this is an AVIF file"),
        (b'<?xml version="1.0"?>\n<svg/>', "this is an SVG file"),
        (b"%PDF-1.7", "this is a PDF file"),
        (encoded(BLACK, "JPEG")[:300], "this JPEG is truncated"),
        (encoded(BLACK, "PNG")[:20], "this PNG is truncated"),
    ],
)
def test_every_cause_has_its_own_reason(contents: bytes, sentence: str) -> None:
    with pytest.raises(photo_header.HeaderError) as caught:
        photo_header.read(contents)
    assert str(caught.value).startswith(sentence)
