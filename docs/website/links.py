"""What is wrong with the links of a site: the generator checks only those between pages."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# An element that loads what it names, in contrast to a link that a reader may follow.
_LOADS = {"img", "link", "script", "iframe", "source", "video", "audio", "embed", "object"}
_EMPTY_PAGES = {"404.html"}  # names files from the root of the server


class _Page(HTMLParser):
    """The ids of a page, and what it refers to."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.references: list[tuple[str, str]] = []  # element, address
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.ids.add(value)
            if name in ("href", "src", "data", "poster"):
                self.references.append((tag, value or ""))


def problems(site: Path) -> list[str]:
    """A sentence for each address that leads nowhere or is loaded from a network."""
    pages = {
        path.resolve(): _Page(path)
        for path in sorted(site.rglob("*.html"))
        if path.name not in _EMPTY_PAGES
    }
    found = []
    for path, page in pages.items():
        for tag, address in page.references:
            fault = _fault(path, tag, address, pages)
            if fault:
                found.append(f"{path.relative_to(site)}: {address} {fault}.")
    return found


def _fault(path: Path, tag: str, address: str, pages: dict[Path, _Page]) -> str | None:
    if tag in _LOADS and not address:
        return "has no address"
    parts = urlsplit(address)
    if parts.scheme in ("data", "mailto", "javascript"):
        return None
    if parts.scheme or parts.netloc:
        return "is loaded from a network" if tag in _LOADS else None
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return "leads to no file"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].ids:
        return "has no such anchor"
    return None
