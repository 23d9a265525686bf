"""Builds the site: ``python -m docs.website [--output build/docs]``.

The pages of ``docs/``, with those generated from the code, are gathered in ``OUTPUT/docs``; the
site is in ``OUTPUT/site``. Nothing is fetched, and the site loads nothing from a network.

Exit code 0 if the site is complete; 1 if a link is broken or the generator has a warning.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tomli

from . import api, links, notebooks, reference

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "zensical.toml"
# Pages that stand beside docs/ in the repository, and where the site has them.
PROJECT_PAGES = {
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
}
# Pages that are generated from a file, and which the repository therefore does not hold.
GENERATED = {
    "README.md": "index.md",
    "pipeline/cli/__init__.py": "reference/command_line.md",
    "pipeline/report/outcome.py": "reference/latest_run.md",
    "pipeline/settings/schema.py": "reference/settings.md",
}
# A Markdown link with its text, outside code. An image is left alone.
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CODE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def main(argv: Sequence[str] | None = None) -> int:
    """Builds the site and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m docs.website", description="Builds the site.")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "docs", metavar="DIR")
    output = parser.parse_args(argv).output.resolve()
    shutil.rmtree(output, ignore_errors=True)
    problems = gather(output / "docs")
    shutil.copy(ROOT / CONFIG, output)
    problems += strays(output / "docs")
    shutil.copytree(Path(__file__).with_name("assets"), output / "docs" / "assets")
    if not problems:
        if not generate(output):
            return 1
        problems = links.problems(output / "site")
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"Open {output / 'site' / 'index.html'}")
    return 1 if problems else 0


def gather(pages: Path) -> list[str]:
    """Fills a folder with every page of the site; a sentence for each link that leads nowhere."""
    ignored = shutil.ignore_patterns("website", "*.py", "*.ipynb", "__pycache__")
    shutil.copytree(ROOT / "docs", pages, ignore=ignored)
    for source, name in PROJECT_PAGES.items():
        _write(pages / name, (ROOT / source).read_text(encoding="utf-8"))
    for notebook in sorted((ROOT / "docs").rglob("*.ipynb")):
        path = notebook.relative_to(ROOT / "docs").with_suffix(".md")
        _write(pages / path, notebooks.page(notebook))
    for name, text in {**reference.pages(ROOT), **api.pages(ROOT)}.items():
        _write(pages / "reference" / name, text)
    origins = {page: source for source, page in PROJECT_PAGES.items()}
    problems: list[str] = []
    for page in pages.rglob("*.md"):
        within = page.relative_to(pages).as_posix()
        origin = ROOT / origins.get(within, f"docs/{within}")
        text = page.read_text(encoding="utf-8")
        page.write_text(within_the_site(text, origin, page, pages, problems), encoding="utf-8")
    return problems


def _write(page: Path, text: str) -> None:
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text, encoding="utf-8")


def strays(pages: Path) -> list[str]:
    """A sentence for each page that is missing from the navigation, or listed but not there."""
    config = tomli.loads((ROOT / CONFIG).read_text(encoding="utf-8"))
    listed = set(_listed(config["project"]["nav"]))
    made = {page.relative_to(pages).as_posix() for page in pages.rglob("*.md")}
    return [
        *(f"{CONFIG}: nav lacks {page}." for page in sorted(made - listed)),
        *(f"{CONFIG}: nav names {page}, which does not exist." for page in sorted(listed - made)),
    ]


def _listed(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        yield from _listed(list(entry.values()))
    else:
        for each in entry:
            yield from _listed(each)


def within_the_site(text: str, origin: Path, page: Path, pages: Path, problems: list[str]) -> str:
    """Points a page's links at pages of the site; a link to other files becomes its bare text.

    Args:
      text: the page, as it stands in the repository.
      origin: where it stands there.
      page: where it stands among the pages of the site.
      pages: the folder of these.
      problems: gets a sentence for each link to a file that does not exist.
    """

    def relink(match: re.Match[str]) -> str:
        target = match["target"]
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = Path(os.path.normpath(origin.parent / target))
        wanted, anchor = _on_the_site(path, pages)
        if wanted is not None:
            anchor = match["anchor"] or anchor
            return f"[{match['text']}]({os.path.relpath(wanted, page.parent)}{anchor})"
        if not path.exists():
            problems.append(f"{origin.relative_to(ROOT)}: the link to {target} leads nowhere.")
        return match["text"] if "`" in match["text"] else f"`{match['text']}`"

    parts = _CODE.split(text)
    return "".join(part if i % 2 else _LINK.sub(relink, part) for i, part in enumerate(parts))


def _on_the_site(path: Path, pages: Path) -> tuple[Path | None, str]:
    """The page that the site has for a file of the repository, and the place in it."""
    if not path.is_relative_to(ROOT):
        return None, ""
    name = path.relative_to(ROOT).as_posix()
    names = {**PROJECT_PAGES, **GENERATED}
    if name in names:
        return pages / names[name], ""
    if name.startswith("docs/"):
        suffix = ".md" if path.suffix == ".ipynb" else path.suffix
        page = pages / path.relative_to(ROOT / "docs").with_suffix(suffix)
        return (page, "") if page.is_file() else (None, "")
    module = name.removesuffix(".py").replace("/", ".")
    for package in (module, module.rpartition(".")[0]):
        page = pages / "reference" / "python" / f"{package}.md"
        if page.is_file():
            known = f"{{ #{module} }}" in page.read_text(encoding="utf-8")
            return page, f"#{module}" if known else ""
    return None, ""


def generate(output: Path) -> bool:
    """Runs the generator on the gathered pages; whether it had no warning."""
    program = str(Path(sys.executable).with_name("zensical"))
    command = [program, "build", "--strict", "--config-file", str(output / CONFIG)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        # The traceback at its end says only that it is strict.
        warnings = (done.stdout + done.stderr).partition("Traceback")[0]
        print(_COLOUR.sub("", warnings), file=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
