# The container image of the tasks on Kubeflow Pipelines: targets cpu and gpu
# (docs/how_to/kubeflow_install.md, "Build the image").
# Build secrets, none of which ends up in the image: pip_conf, pip's settings, and ca, a bundle of certificates.
ARG BASE=debian:13-slim

FROM ${BASE} AS runtime
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
WORKDIR /app
# Any user may run it, and without a home: nothing is written outside the volume and /tmp.
ENV PATH=/app/.venv/bin:/usr/bin:/bin \
    HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib USER=segmentation LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 1000:1000
# Kubernetes does not look at it: there, a task's exit code says how it is.
HEALTHCHECK --interval=5m --timeout=30s CMD ["python", "-m", "kubeflow.entrypoint", "--help"]
# No ENTRYPOINT: Kubeflow Pipelines gives each task its whole command.
CMD ["python", "-m", "kubeflow.entrypoint", "--help"]

FROM runtime AS build
USER root
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ python3-dev python3-venv \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
COPY requirements/ requirements/
ENV PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1

FROM build AS cpu-packages
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    LOCK=requirements/image-cpu.txt sh requirements/setup.sh \
    && .venv/bin/python -m pip uninstall --quiet --yes uv pip

FROM build AS gpu-packages
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt \
    LOCK=requirements/image-gpu.txt sh requirements/setup.sh \
    && .venv/bin/python -m pip uninstall --quiet --yes uv pip

FROM build AS code
# Without setup.py at hand TFX packs itself up for each Beam component.
COPY LICENSE local_runner.py setup.py /code/
COPY components/ /code/components/
COPY kubeflow/ /code/kubeflow/
COPY pipeline/ /code/pipeline/
COPY schemas/ /code/schemas/
RUN python3 -m compileall -q /code

FROM runtime AS gpu
# Where the container runtime of a GPU node puts the driver's libraries.
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib64 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=gpu-packages /app/.venv .venv
COPY --from=code /code .

FROM runtime AS cpu
COPY --from=cpu-packages /app/.venv .venv
COPY --from=code /code .
