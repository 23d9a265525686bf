"""The gate: metrics from counts of pixels, their bounds by slice, and the verdict.

May import: `pipeline.core`, `pipeline.settings`, `pipeline.saved_model`.
"""
