"""The pipeline's own TFX components.

May import: `pipeline.conversion`, `pipeline.training`, `pipeline.artifacts` and what these may
import.
"""
