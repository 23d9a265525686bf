"""Shared by all packages: names of features and splits, errors, files, paths, the terminal.

May import: no other package of the pipeline.
"""
