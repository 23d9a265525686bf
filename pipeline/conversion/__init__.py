"""Converts a release to other formats, compares the files with it, and writes for Triton.

May import: all that `pipeline.inference` may, `pipeline.inference` itself, `pipeline.release` and
`pipeline.evaluation`.
"""
