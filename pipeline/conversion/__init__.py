"""Convert a release to other formats, compare the files with it, write a Triton repository.

May import: all that `pipeline.inference` may, `pipeline.inference` itself, `pipeline.release` and
`pipeline.evaluation`.
"""
