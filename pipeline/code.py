"""A fingerprint of source code, so that after an edit nothing stale comes from the cache."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path


def fingerprint(*modules: str) -> str:
    """Hex digest of the sources of modules, given by dotted name; of a package, all its modules."""
    digest = hashlib.sha256()
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"no source for {module}")
        origin = Path(spec.origin)
        paths = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
        for path in paths:
            digest.update(f"{module} {path.name}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
