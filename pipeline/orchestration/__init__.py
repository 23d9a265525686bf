"""The pipeline as a graph of components, and the launcher that runs its nodes one by one.

May import: `components` and what it may import.
"""
