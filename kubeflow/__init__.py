"""The pipeline on Kubeflow Pipelines (KFP); no other package knows KFP.

May import: everything; nothing imports it.
"""
