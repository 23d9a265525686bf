"""The same pipeline as Kubeflow Pipelines tasks. Only here is KFP known.

May import: everything; nothing imports it.
"""
