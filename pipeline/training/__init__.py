"""Training: batches, augmentation, losses, the resumable training loop, the search for settings.

May import: `pipeline.core`, `pipeline.settings`, `pipeline.data`, `pipeline.models`,
`pipeline.saved_model`, `pipeline.release`.
"""
