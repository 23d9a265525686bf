"""Keeps a segmentation model fresh: ingest, validate, transform, train, evaluate, release.

One package a concern; docs/explanation/design.md has the map and the direction of imports.
"""

# The one place: setup.py reads it, and tests/test_project.py holds docs and image tags to it.
__version__ = "0.2.0"
