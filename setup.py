"""The installable distribution; Beam workers get this file as ``--setup_file``."""

import re
from pathlib import Path

from setuptools import find_namespace_packages, setup

_PACKAGE = Path(__file__).with_name("pipeline") / "__init__.py"
(VERSION,) = re.findall(r'^__version__ = "(.+?)"', _PACKAGE.read_text(), re.MULTILINE)

# One list for both stacks (docs/explanation/stacks.md); `make lock` writes what it resolves to.
CURRENT = 'python_version >= "3.11"'
COMPATIBLE = 'python_version < "3.11"'

# The local web page of `python -m pipeline serve`.
SERVE = ["fastapi", "uvicorn"]
# Formats of `python -m pipeline convert`: converters, and the runtimes that check what they made.
ONNX = ["onnx", "onnxruntime", "tf2onnx>=1.17"]
LITERT = ["ai-edge-litert"]
OPENVINO = ["nncf", "openvino", *ONNX]
# `make docs`: the site generator, and the parser of docstrings for the Python reference.
DOCS = ["griffelib", "zensical"]

setup(
    name="segmentation-pipeline",
    version=VERSION,
    license="Apache-2.0",
    license_files=["LICENSE"],
    description="Keeps an image-segmentation model fresh, on one machine or on Kubeflow Pipelines.",
    python_requires=">=3.10,<3.14",
    packages=find_namespace_packages(include=["pipeline*", "components*", "schemas*", "kubeflow*"]),
    py_modules=["local_runner"],
    # Whatever lies in a package beside the modules: schemas, templates.
    package_data={"": ["*"]},
    # The filled-in copy of its template holds a password; what the manifests take in may be a key.
    exclude_package_data={"": ["metadata.env", "ca.crt", "tls.crt", "tls.key"]},
    install_requires=[
        f"tfx==1.21.0; {CURRENT}",
        f"tensorflow==2.21.0; {CURRENT}",
        f"tfx==1.16.0; {COMPATIBLE}",
        f"tensorflow==2.16.2; {COMPATIBLE}",
        # TFX 1.16 needs dill, which later Beams no longer bring.
        f"apache-beam==2.59.0; {COMPATIBLE}",
        f"kfp==2.16.1; {CURRENT}",
        f"kfp-kubernetes==2.16.1; {CURRENT}",
        f"kfp==2.5.0; {COMPATIBLE}",
        f"kfp-kubernetes==1.0.0; {COMPATIBLE}",
        "docker>=7,<8",
        "filelock",
        "google-crc32c",
        "jinja2",
        "markdown-it-py",
        "matplotlib",
        "pg8000",
        "pillow",
        "pydantic>=2",
        "pymysql[rsa]",
        "pyyaml",
        "rich",
        "tensorboard",
    ],
    extras_require={
        "dev": [
            "hypothesis",
            "import-linter",
            "ipykernel",
            "kubernetes-validate",
            "mypy",
            "nbclient",
            "packaging",
            "pytest",
            "pytest-xdist",
            "ruff",
            "types-PyYAML",
            "websocket-client",
            "tritonclient",
            *DOCS,
            *SERVE,
            *LITERT,
            *OPENVINO,
        ],
        "docs": DOCS,
        "serve": SERVE,
        "onnx": ONNX,
        "litert": LITERT,
        "openvino": OPENVINO,
        # CUDA libraries, for the GPU image.
        "gpu": [f"tensorflow[and-cuda]==2.21.0; {CURRENT}"],
    },
    entry_points={"console_scripts": ["segmentation-pipeline=pipeline.cli:main"]},
)
