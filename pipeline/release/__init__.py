"""Released versions: the folder that servers watch, changes to it, copies, model cards.

May import: `pipeline.core`, `pipeline.settings`, `pipeline.saved_model`.
"""
