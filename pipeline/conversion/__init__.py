"""Convert a release to other formats, compare the files with it, write a Triton repository.

May import: `pipeline.inference`, `pipeline.evaluation`, `pipeline.release` and what these may
import.
"""
