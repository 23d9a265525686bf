"""Output artifacts of components: names of their properties, readers of their files.

May import: `pipeline.core`, `pipeline.compat`, `pipeline.data`, `pipeline.saved_model`,
`pipeline.release`.
"""
