"""The exported model: its graph and signatures, what it must offer, and a check as servers ask.

May import: `pipeline.core`, `pipeline.data`.
"""
