"""The same pipeline as Kubeflow Pipelines tasks. Only here is KFP known.

May import: everything; nothing imports it.
"""

import pkgutil

# PyPI's `kubeflow`, the Kubeflow SDK, has the same name: see docs/decisions/0006-kubeflow-name.md.
__path__ = pkgutil.extend_path(__path__, __name__)
