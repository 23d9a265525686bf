"""Fingerprints the code behind a component, so that the cache never serves stale results.

The fingerprint of a module covers the code of all first-party modules that it imports, directly or
not, so there is no list to maintain. Comments and docstrings do not count. `UNRELATED` lists what
is left out, and why.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]  # the folder with the packages

# TFX and TensorFlow fix the versions of the other libraries behind a component, but for these.
_LIBRARIES = ("tfx", "tensorflow", "keras", "keras-tuner", "numpy", "pillow")
_PACKAGES = ("pipeline", "components")

# Modules and packages that do not affect what a component computes. What only they import is left
# out as well, unless it is an entry itself.
UNRELATED = {
    "pipeline.core.code": "a change of the fingerprint itself shows in the fingerprint",
    "pipeline.core.console": "prints",
    "pipeline.core.errors": "words errors, and reasons for a quarantine, which only people read",
    "pipeline.core.formatting": "words names, numbers and times for people",
    "pipeline.core.locks": "keeps other processes out",
    "pipeline.core.paths": "checks paths before they are used",
    "pipeline.core.progress": "shows progress",
    "pipeline.release.model_store": "finds initial weights, which are read unchanged",
    "pipeline.settings": "values that matter are properties of the component themselves",
}


def versions() -> dict[str, str]:
    """Return the versions of TFX and TensorFlow, and the name of the stack."""
    tfx = importlib.metadata.version("tfx")
    stack = "compatible" if tfx.startswith("1.16.") else "current"
    return {"tfx": tfx, "tensorflow": importlib.metadata.version("tensorflow"), "stack": stack}


def digest(path: str | None) -> str | None:
    """Return the hex digest of a file's content, or None if there is no such file."""
    if path is None or not Path(path).is_file():
        return None
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def fingerprint(*modules: str) -> str:
    """Return the hex digest of library versions, and of the modules' `closure` and its templates.

    Args:
      modules: dotted names.
    """
    digest = hashlib.sha256(_libraries())
    for module in closure(*modules):
        digest.update(f"{module}\n".encode())
        digest.update(_statements(_source(module)))
        for template in _templates(module):
            digest.update(template.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def _libraries() -> bytes:
    return "".join(f"{name} {importlib.metadata.version(name)}\n" for name in _LIBRARIES).encode()


def closure(*modules: str) -> list[str]:
    """Return modules and all first-party modules that they import, sorted, without importing any.

    Imports inside functions count; those under ``if TYPE_CHECKING`` do not.

    Raises:
      ModuleNotFoundError: one of `modules` has no source.
    """
    visited: set[str] = set()
    pending = list(modules)
    while pending:
        module = pending.pop()
        if module in visited:
            continue
        if _path(module) is None:
            raise ModuleNotFoundError(f"no source for {module}")
        visited.add(module)
        imported = _imports(_source(module))
        pending += [each for each in imported if not _is_unrelated(each)]
    return sorted(visited)


def _templates(module: str) -> list[Path]:
    """Return the templates beside a module whose names it contains."""
    path, source = _path(module), _source(module)
    folder = path.parent / "templates" if path else Path()
    return sorted(file for file in folder.glob("*.j2") if file.name.encode() in source)


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
    """Return the statements of a module, independent of layout, comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        # Blank docstrings, and other bare constants, which have no effect either.
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
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "imports must be absolute"
            assert node.level == 0, "imports must be absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        else:
            names = []
        for name in names:
            if name.split(".")[0] in _PACKAGES and _path(name):
                yield name
        yield from _imported(node)
