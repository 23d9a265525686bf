"""The installable distribution; Beam workers install it from this ``--setup_file``."""

import re
import shutil
from pathlib import Path

from setuptools import find_namespace_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info

_PACKAGE = Path(__file__).with_name("pipeline") / "__init__.py"
(VERSION,) = re.findall(r'^__version__ = "(.+?)"', _PACKAGE.read_text(), re.MULTILINE)

# One list for both stacks (docs/explanation/stacks.md); `make lock` resolves it into lock files.
CURRENT = 'python_version >= "3.11"'
COMPATIBLE = 'python_version < "3.11"'

# The local web page of `python -m pipeline serve`.
SERVE = ["fastapi", "uvicorn"]
# Formats of `python -m pipeline convert`: converters, and runtimes to check the converted models.
ONNX = ["onnx", "onnxruntime", "tf2onnx>=1.17"]
LITERT = ["ai-edge-litert"]
OPENVINO = ["nncf", "openvino", *ONNX]
# `make docs`: the site generator, and the parser of docstrings for the Python reference.
DOCS = ["griffelib", "zensical"]


# Subfolders included; a folder beside them, such as pipeline-out, is not.
PACKAGES = ["components", "kubeflow", "pipeline", "schemas"]


class EggInfo(egg_info):
    """Forgets which files an earlier sdist took: setuptools would take them again."""

    def find_sources(self) -> None:
        Path(self.egg_info, "SOURCES.txt").unlink(missing_ok=True)
        super().find_sources()


class BuildPy(build_py):
    """Leaves out what the Kubeflow SDK, PyPI's `kubeflow`, has too (docs/decisions/0006-*.md)."""

    def run(self) -> None:
        for package in PACKAGES:  # modules of an earlier build that have been removed since
            shutil.rmtree(Path(self.build_lib, package), ignore_errors=True)
        super().run()
        for shared in ("__init__.py", "py.typed"):
            Path(self.build_lib, "kubeflow", shared).unlink(missing_ok=True)


setup(
    name="segmentation-pipeline",
    version=VERSION,
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    description="Keeps an image-segmentation model fresh, on one machine or on Kubeflow Pipelines.",
    python_requires=">=3.10,<3.14",
    packages=find_namespace_packages(include=[*PACKAGES, *(f"{name}.*" for name in PACKAGES)]),
    py_modules=["local_runner"],
    cmdclass={"build_py": BuildPy, "egg_info": EggInfo},
    # By kind, as in .dockerignore: filled-in templates, keys and their backups are secrets.
    package_data={"": ["*.html", "*.j2", "*.pbtxt", "*.template", "*.yaml", "py.typed"]},
    install_requires=[
        f"tfx==1.21.0; {CURRENT}",
        f"tensorflow==2.21.0; {CURRENT}",
        f"tfx==1.16.0; {COMPATIBLE}",
        f"tensorflow==2.16.2; {COMPATIBLE}",
        # TFX 1.16 needs dill, which later versions of Beam do not install.
        f"apache-beam==2.59.0; {COMPATIBLE}",
        f"kfp==2.16.1; {CURRENT}",
        f"kfp-kubernetes==2.16.1; {CURRENT}",
        f"kfp==2.5.0; {COMPATIBLE}",
        f"kfp-kubernetes==1.0.0; {COMPATIBLE}",
        "cron-descriptor",
        "croniter",
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
