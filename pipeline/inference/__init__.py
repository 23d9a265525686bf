"""Photos in, masks out: the released model, batches of photos, the web page.

May import: `pipeline.core`, `pipeline.data`, `pipeline.saved_model`, `pipeline.formats`.
"""
