"""The gate: metrics from pixel counts, their thresholds by slice, and the results.

May import: `pipeline.core`, `pipeline.settings`, `pipeline.saved_model`.
"""
