"""Keeps a segmentation model fresh: ingest, validate, transform, train, evaluate, release."""
