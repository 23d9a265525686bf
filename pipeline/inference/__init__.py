"""Inference with a released model: single photos, batches of photos, the web page.

May import: `pipeline.core`, `pipeline.data`, `pipeline.saved_model`, `pipeline.formats`.
"""
