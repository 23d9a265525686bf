"""The pipeline's own TFX components.

May import: the packages of `pipeline` except cli, orchestration and report.
"""
