"""The fetching of the data set: resumed, verified, and unpacked nowhere but in its folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.cli import data as command
from pipeline.core.errors import UserError
from pipeline.data import download, layout, unpacking

pytestmark = pytest.mark.once

IDS = ("Bengal_1", "pug_1", "pug_2")
COUNTS = {"photos": 3, "pairs on list.txt": 2, "pairs on trainval.txt": 1, "pairs on test.txt": 1}
ANNOTATIONS = {
    "annotations/list.txt": b"#Image CLASS-ID SPECIES BREED ID\nBengal_1 6 1 3\npug_1 26 2 19\n",
    "annotations/trainval.txt": b"Bengal_1 6 1 3\n",
    "annotations/test.txt": b"pug_1 26 2 19\n",
    **{f"annotations/trimaps/{id_}.png": id_.encode() for id_ in IDS},
    "annotations/trimaps/._pug_1.png": b"macOS",
}
IMAGES = {f"images/{id_}.jpg": id_.encode() * 9000 for id_ in IDS}


def packed(files: dict[str, bytes], mode: str = "w", **linked: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in linked.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return buffer.getvalue()


@dataclass
class Server:
    """Serves files from memory, with ranges, and breaks off where it is told to."""

    files: dict[str, bytes]
    break_off: list[int] = field(default_factory=list)  # bytes sent of the next answers
    ranges: bool = True
    length: bool = True  # whether an answer tells it
    endless: bool = False  # sends what was asked for again and again
    headers: dict[str, str] = field(default_factory=dict)  # beside the usual ones
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # name, range
    url: str = ""

    def source(self) -> download.Source:
        archives = [
            download.Archive(Path(folder), len(content), hashlib.sha256(content).hexdigest())
            for folder in ("annotations", "images")
            for content in [self.files[f"{folder}.tar.gz"]]
        ]
        return download.Source(self.url, tuple(archives), COUNTS)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server(
        {"annotations.tar.gz": packed(ANNOTATIONS, "w:gz"), "images.tar.gz": packed(IMAGES)}
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/elsewhere"):
                self.send_response(302)
                self.send_header("Location", state.headers["Location"])
                self.end_headers()
                return
            name, asked = self.path.removeprefix("/"), self.headers["Range"]
            state.requests.append((name, asked))
            if name not in state.files:
                self.send_error(404)
                return
            content, start = state.files[name], 0
            if asked and state.ranges:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if state.length:
                self.send_header("Content-Length", str(len(content) - start))
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.end_headers()
            end = start + state.break_off.pop(0) if state.break_off else None
            self.wfile.write(content[start:end])
            with contextlib.suppress(ConnectionError):
                while state.endless:
                    self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=[0.01])
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_WAITS", (0, 0))


def fetch(root: Path, source: download.Source) -> None:
    download.download(root, source, Console(file=io.StringIO()))


def names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


WHOLE = {*ANNOTATIONS, *IMAGES} - {"annotations/trimaps/._pug_1.png"}


def test_archives_are_unpacked_and_fetched_once(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "data"
    fetch(root, server.source())
    assert names(root) == WHOLE
    assert (root / "images" / "pug_1.jpg").read_bytes() == IMAGES["images/pug_1.jpg"]
    assert layout.check_layout(root) == [root]
    assert len(server.requests) == 2
    fetch(root, server.source())
    assert len(server.requests) == 2


def test_a_broken_transfer_resumes(server: Server, tmp_path: Path) -> None:
    server.break_off = [100, 50]
    fetch(tmp_path, server.source())
    assert names(tmp_path) == WHOLE
    asked = [asked for name, asked in server.requests if name == "annotations.tar.gz"]
    assert asked == [None, "bytes=100-", "bytes=150-"]


def test_a_killed_download_resumes(server: Server, tmp_path: Path) -> None:
    (tmp_path / ".images.tar.gz.part").write_bytes(server.files["images.tar.gz"][:5000])
    left = tmp_path / ".annotations.tar.gz.unpacking" / "annotations"
    left.mkdir(parents=True)
    (left / "half.txt").touch()
    fetch(tmp_path, server.source())
    assert names(tmp_path) == WHOLE
    assert ("images.tar.gz", "bytes=5000-") in server.requests


def test_a_server_without_ranges_begins_anew(server: Server, tmp_path: Path) -> None:
    server.break_off, server.ranges = [100], False
    fetch(tmp_path, server.source())
    assert names(tmp_path) == WHOLE


def test_after_too_many_breaks_the_next_download_resumes(server: Server, tmp_path: Path) -> None:
    source = server.source()
    server.break_off = [60, 1, 1]
    with pytest.raises(
        UserError, match=r"broke off after 62 of .* run the command again to resume"
    ):
        fetch(tmp_path, source)
    fetch(tmp_path, source)
    assert ("annotations.tar.gz", "bytes=62-") in server.requests
    assert names(tmp_path) == WHOLE


def test_a_page_in_the_place_of_an_archive_is_not_taken(server: Server, tmp_path: Path) -> None:
    source, archive = server.source(), server.files["annotations.tar.gz"]
    server.files["annotations.tar.gz"] = b"Please log in."
    with pytest.raises(UserError, match=r"tar.gz is 14 bytes long, not \d\d\d; choose"):
        fetch(tmp_path, source)
    assert len(server.requests) == 1
    server.files["annotations.tar.gz"] = archive
    fetch(tmp_path, source)
    assert names(tmp_path) == WHOLE


def test_a_corrupted_archive_is_removed_unopened(server: Server, tmp_path: Path) -> None:
    source = server.source()
    content = bytearray(server.files["annotations.tar.gz"])
    content[60] ^= 1
    server.files["annotations.tar.gz"] = bytes(content)
    with pytest.raises(
        UserError, match=r"annotations.tar.gz has the SHA-256 digest .* download it"
    ):
        fetch(tmp_path, source)
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    "archive",
    [
        packed({**IMAGES, "../evil.txt": b""}),
        packed({**IMAGES, "images/../../evil.txt": b""}),
        packed(IMAGES, **{"images/evil": "../.."}),
        packed(IMAGES, **{"images/evil": "Bengal_1.jpg"}),
    ],
    ids=["parent", "parent-within", "link", "link-within"],
)
def test_nothing_is_unpacked_outside_the_folder(
    archive: bytes, server: Server, tmp_path: Path
) -> None:
    root = tmp_path / "deep" / "data"
    server.files["images.tar.gz"] = archive
    with pytest.raises(UserError, match=r"evil.*', which is not a regular file below its folder"):
        fetch(root, server.source())
    left = {path.as_posix() for path in tmp_path.rglob("*") if "annotations/" not in str(path)}
    assert left == {
        str(tmp_path / name)
        for name in ("deep", "deep/data", "deep/data/annotations", "deep/data/images.tar.gz")
    }


def test_an_absolute_path_in_an_archive_is_taken_as_relative(
    server: Server, tmp_path: Path
) -> None:
    server.files["images.tar.gz"] = packed({f"/{name}": data for name, data in IMAGES.items()})
    fetch(tmp_path, server.source())
    assert names(tmp_path) == WHOLE


def test_an_old_python_is_told_to_be_updated(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(UserError, match="use its newest patch release"):
        fetch(tmp_path, server.source())


def test_the_library_takes_links_and_files_given_twice(tmp_path: Path) -> None:
    """The reason for a filter around tarfile's own. If this fails, ours can go."""
    link = tarfile.TarInfo("images/a.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "b.jpg"
    assert tarfile.data_filter(link, str(tmp_path)) is not None
    file = tarfile.TarInfo("a.jpg")
    (tmp_path / "a.jpg").touch()
    assert tarfile.data_filter(file, str(tmp_path)) is not None


@pytest.mark.parametrize(
    ("archive", "sentence"),
    [
        (b"no tar file" * 99, "Cannot unpack"),
        (packed(IMAGES, "w:gz")[:-30], "Cannot unpack"),
        (packed({"photos/pug_1.jpg": b""}), "contains no folder images/"),
    ],
    ids=["no-tar", "truncated", "other-folder"],
)
def test_an_archive_that_is_none_is_one_sentence(
    archive: bytes, sentence: str, server: Server, tmp_path: Path
) -> None:
    server.files["images.tar.gz"] = archive
    with pytest.raises(UserError, match=sentence):
        fetch(tmp_path, server.source())
    assert not (tmp_path / "images").exists()


def test_no_more_is_written_than_was_promised(server: Server, tmp_path: Path) -> None:
    source = server.source()
    server.length, server.endless = False, True
    size = len(server.files["annotations.tar.gz"])
    with pytest.raises(UserError, match=rf"is more than {size} bytes long, not {size}; choose"):
        fetch(tmp_path, source)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*")) <= size
    server.endless = False
    fetch(tmp_path, source)
    assert names(tmp_path) == WHOLE


def test_another_part_than_was_asked_for_is_not_taken(server: Server, tmp_path: Path) -> None:
    source = server.source()
    server.break_off = [60, 1, 1]
    with pytest.raises(UserError, match="broke off"):
        fetch(tmp_path, source)
    server.headers = {"Content-Range": "bytes 7-99/100"}
    with pytest.raises(UserError, match="The server sent the wrong part of"):
        fetch(tmp_path, source)


def test_what_a_server_calls_encoded_is_taken_as_it_is(server: Server, tmp_path: Path) -> None:
    """Some say so of every file whose name ends in .gz; length and digest decide."""
    server.headers = {"Content-Encoding": "x-gzip"}
    fetch(tmp_path, server.source())
    assert names(tmp_path) == WHOLE


@pytest.mark.parametrize(
    ("place", "words"),
    [("file:///etc/passwd", "edirect"), ("ftp://127.0.0.1/x", "ftp"), ("/elsewhere", "edirect")],
)
def test_a_redirection_leads_to_the_web_alone_and_ends(
    place: str, words: str, server: Server, tmp_path: Path
) -> None:
    source = server.source()
    server.headers = {"Location": place}
    with pytest.raises(UserError, match=words) as caught:
        fetch(tmp_path, source.at(f"{server.url}/elsewhere"))
    assert str(caught.value).isprintable()


def test_a_dripping_server_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_SLOWEST", (10**9, 0))
    monkeypatch.setattr(download, "_WAITS", ())  # another attempt would find all of it there
    with pytest.raises(UserError, match="fewer than 1,000,000,000 bytes arrived in 0 seconds; run"):
        fetch(tmp_path, server.source())


def test_an_archive_that_a_person_put_there_is_kept(server: Server, tmp_path: Path) -> None:
    source, theirs = server.source(), tmp_path / "images.tar.gz"
    for contents in (b"holidays", server.files["images.tar.gz"][:5000]):
        theirs.write_bytes(contents)
        with pytest.raises(UserError, match=r"/images.tar.gz is not the expected archive"):
            fetch(tmp_path, source)
        assert theirs.read_bytes() == contents
    theirs.write_bytes(server.files["images.tar.gz"])
    fetch(tmp_path, source)
    assert names(tmp_path) == {*WHOLE, "images.tar.gz"}
    assert [name for name, _ in server.requests] == ["annotations.tar.gz"]


def bomb(kind: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        if kind == "note":
            member = tarfile.TarInfo("images/a.jpg")
            member.pax_headers = {"comment": "x" * 2_000_000}  # is read in one piece
            tar.addfile(member)
        for number in range({"files": 101, "bytes": 1}.get(kind, 0)):
            member = tarfile.TarInfo(f"images/{number}.jpg")
            member.size = 30_000_000 if kind == "bytes" else 0
            tar.addfile(member, io.BytesIO(bytes(member.size)))
        if kind == "twice":
            for _ in range(2):
                tar.addfile(tarfile.TarInfo("images/a.jpg"))
        if kind == "device":
            member = tarfile.TarInfo("images/a.jpg")
            member.type = tarfile.CHRTYPE
            tar.addfile(member)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["files", "bytes", "note", "twice", "device"])
def test_an_archive_bomb_fills_no_disk(
    kind: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "_MOST_FILES", 100)
    server.files["images.tar.gz"] = bomb(kind)
    with pytest.raises(UserError, match=r"far more data than it should|not a regular file|twice"):
        fetch(tmp_path, server.source())
    assert not (tmp_path / "images").exists()
    assert not list(tmp_path.glob(".*"))


def test_counts_are_verified(server: Server, tmp_path: Path) -> None:
    fetch(tmp_path, server.source())
    (tmp_path / "annotations" / "trimaps" / "pug_1.png").unlink()
    with pytest.raises(UserError, match=r"has 1 pairs on list.txt, not 2; 0 pairs on test.txt"):
        fetch(tmp_path, server.source())


def test_the_command_fetches_and_says_so(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(download, "PETS", server.source())
    assert command.main(["download", str(tmp_path)]) == 0
    assert "is complete: 3 photos, 2 pairs on list.txt" in capsys.readouterr().out
    server.files.clear()
    other = tmp_path / "other"
    assert command.main(["download", str(other), "--url", f"{server.url}/mirror/"]) == 2
    error = capsys.readouterr().err
    url = f"{server.url}/mirror/annotations.tar.gz"
    assert error == (
        f"Error: Cannot download {url}: the server responded with 404 Not Found;"
        " choose another --url.\n"
    )


def test_an_address_that_is_none_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["download", "data", "--url", "file:///mirror"]) == 2
    assert "--url is 'file:///mirror'; it must start with https://" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_one_sentence(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["download", "/dev/null/data", "--url", server.url]) == 2
    assert capsys.readouterr().err.startswith("Error: Cannot write to /dev/null/data: Not a dir")
