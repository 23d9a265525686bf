"""What components leave for others to read: names of properties, and readers of their files.

May import: `pipeline.core`, `pipeline.data`, `pipeline.saved_model`, `pipeline.release`.
"""
