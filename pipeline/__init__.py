"""Keeps an image-segmentation model fresh: ingest, validate, transform, train, evaluate, release."""
