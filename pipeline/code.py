"""A fingerprint of code, so that after an edit or an upgrade nothing stale comes from the cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path

_LIBRARIES = ("tfx", "tensorflow", "keras")


def fingerprint(*modules: str) -> str:
    """Hex digest of the sources of modules, given by dotted name, and of library versions."""
    digest = hashlib.sha256()
    for library in _LIBRARIES:
        digest.update(f"{library} {importlib.metadata.version(library)}\n".encode())
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"no source for {module}")
        digest.update(f"{module}\n".encode())
        digest.update(Path(spec.origin).read_bytes())
    return digest.hexdigest()[:16]
