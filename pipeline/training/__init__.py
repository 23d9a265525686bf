"""Training: batches, augmentation, losses, the loop that loses nothing, the search for settings.

May import: `pipeline.core`, `pipeline.settings`, `pipeline.data`, `pipeline.models`,
`pipeline.saved_model`, `pipeline.release`.
"""
