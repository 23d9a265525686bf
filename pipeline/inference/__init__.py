"""Inference with a released model: single photos, batches of photos, the page of `serve`.

May import: `pipeline.core`, `pipeline.data`, `pipeline.saved_model`, `pipeline.formats`.
"""
