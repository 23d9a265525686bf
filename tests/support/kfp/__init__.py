"""A stand-in for a Kubeflow Pipelines server, as recorded and read from release 2.17.0."""
