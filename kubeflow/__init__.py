"""The Kubeflow side: the same pipeline as Kubeflow Pipelines tasks. Only here is KFP known."""
