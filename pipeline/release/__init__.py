"""Released versions: the serving folder, changes to it, its copies, model cards.

May import: `pipeline.core`, `pipeline.settings`, `pipeline.saved_model`.
"""
