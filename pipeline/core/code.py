"""What code a run stands on; its fingerprint keeps what is stale from coming out of the cache.

The fingerprint of a module is taken over the code of all first-party modules that it imports, and
those that they import: no list has to be kept, so none can be forgotten. Comments and docstrings do
not count. `UNRELATED` names what is left out, with the reason.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]  # the folder that the packages lie in

_LIBRARIES = ("tfx", "tensorflow", "keras")
_PACKAGES = ("pipeline", "components")

# Modules, or whole packages, whose edit changes nothing that a component makes. What only they
# import is left out, too.
UNRELATED = {
    "pipeline.core.code": "a change of the fingerprint itself shows in the fingerprint",
    "pipeline.core.console": "prints",
    "pipeline.core.errors": "words of errors",
    "pipeline.core.formatting": "words of names, numbers and times",
    "pipeline.core.locks": "keeps others out meanwhile",
    "pipeline.core.paths": "looks at paths before anything is done with them",
    "pipeline.core.progress": "shows how far a piece of work is",
    "pipeline.release.model_store": "finds weights to begin with, which are read as they are",
    "pipeline.settings": "values that decide are properties of the component themselves",
}


def versions() -> dict[str, str]:
    """Versions of what a run stands on."""
    tfx = importlib.metadata.version("tfx")
    stack = "compatible" if tfx.startswith("1.16.") else "current"
    return {"tfx": tfx, "tensorflow": importlib.metadata.version("tensorflow"), "stack": stack}


def digest(path: str | None) -> str | None:
    """Hex digest of a file's content; None where there is no such file."""
    if path is None or not Path(path).is_file():
        return None
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def fingerprint(*modules: str) -> str:
    """Hex digest of the code that modules stand on, and of library versions.

    Args:
      modules: by dotted name; their `closure` counts.
    """
    digest = hashlib.sha256()
    for library in _LIBRARIES:
        digest.update(f"{library} {importlib.metadata.version(library)}\n".encode())
    for module in closure(*modules):
        digest.update(f"{module}\n".encode())
        digest.update(_statements(_source(module)))
    return digest.hexdigest()[:16]


def closure(*modules: str) -> list[str]:
    """Modules and all first-party ones that they import, sorted; none is imported for it.

    Imports inside functions count, those for type checkers alone do not.

    Raises:
      ModuleNotFoundError: there is no source of one of `modules`.
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        if _path(module) is None:
            raise ModuleNotFoundError(f"no source for {module}")
        found.add(module)
        imported = _imports(_source(module))
        waiting += [each for each in imported if not _is_unrelated(each)]
    return sorted(found)


def _is_unrelated(module: str) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:count]) in UNRELATED for count in range(1, len(parts) + 1))


def _path(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _source(module: str) -> bytes:
    path = _path(module)
    return path.read_bytes() if path else b""


@functools.lru_cache(maxsize=1024)
def _imports(source: bytes) -> tuple[str, ...]:
    return tuple(_imported(ast.parse(source)))


@functools.lru_cache(maxsize=1024)
def _statements(source: bytes) -> bytes:
    """What a module does, however it is laid out and explained."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        # A docstring stands there; another sentence does nothing either.
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                statement.value.value = None
    return ast.dump(tree).encode()


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        else:
            names = []
        for name in names:
            if name.split(".")[0] in _PACKAGES and _path(name):
                yield name
        yield from _imported(node)
