"""The exported model: its graph and signatures, its contract, the smoke test.

May import: `pipeline.core`, `pipeline.data`.
"""
