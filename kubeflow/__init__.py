"""The pipeline on Kubeflow Pipelines (KFP); no other package knows KFP.

May import: `pipeline.orchestration`, `pipeline.report` and what these may import. Nothing
imports it.
"""

import pkgutil

# PyPI's `kubeflow`, the Kubeflow SDK, has the same name: see docs/decisions/0006-kubeflow-name.md.
__path__ = pkgutil.extend_path(__path__, __name__)
