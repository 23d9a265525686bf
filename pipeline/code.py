"""What code a run stands on; its fingerprint keeps what is stale from coming out of the cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path

_LIBRARIES = ("tfx", "tensorflow", "keras")


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
