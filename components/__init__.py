"""The pipeline's own TFX components.

May import: the packages of `pipeline` except orchestration, report and cli.
"""
