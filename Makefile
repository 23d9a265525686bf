# make run              one local run on the built-in data (ARGS="--data-root DIR ..." goes to local_runner.py)
# make test             lint, types and the test suite but for its slow tests; says how long that takes and what was
#                       left out (ARGS="-k gate" goes to pytest, which has two workers)
#                       TEST_ALL=1 make test runs everything: the slow tests, the container image, Docker and, on an
#                       older machine, the other stack
# make test-debian13    the same on the current stack, in a Debian 13 root; needs root privileges
# make docs             builds the documentation site into build/docs/site
# make audit            checks the locked packages against a vulnerability service, if one can be reached
# make lock             resolves both stacks again from setup.py (ARGS=--upgrade takes the newest versions)
# Each target first creates or updates .venv: see docs/how_to/set_up.md.
.PHONY: run test test-debian13 docs audit lock setup

# TensorFlow and TFX load several seconds slower in each process without bytecode. It stays in this folder.
unexport PYTHONDONTWRITEBYTECODE

run: setup
	@.venv/bin/python local_runner.py $(ARGS)

test: setup
	@.venv/bin/python -m ruff check
	@.venv/bin/python -m ruff format --check
	@.venv/bin/python -m mypy
	@.venv/bin/lint-imports --no-logo
	@.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-debian13:
	@.ci/debian13.sh make test

docs: setup
	@.venv/bin/python -m docs.website $(ARGS)

audit: setup
	@.venv/bin/python requirements/audit.py

setup:
	@sh requirements/setup.sh

COMPILE = .venv/bin/uv pip compile --quiet --no-emit-index-url --generate-hashes \
	--custom-compile-command "make lock" $(ARGS)

# What the Dockerfile installs: the current stack without the development tools.
IMAGE = $(COMPILE) --no-annotate --constraints requirements/current.txt --python-version 3.13 \
	--python-platform x86_64-manylinux_2_40

lock: setup
	@echo uv | $(COMPILE) --no-annotate --universal --python-version 3.10 -o requirements/uv.txt -
	$(COMPILE) --extra dev --python-version 3.10 --python-platform x86_64-manylinux_2_28 \
		-o requirements/compatible.txt setup.py
	$(COMPILE) --extra dev --universal --python-version 3.11 -o requirements/current.txt setup.py
	$(IMAGE) --extra onnx --extra litert -o requirements/image-cpu.txt setup.py
	$(IMAGE) --extra onnx --extra litert --extra gpu -o requirements/image-gpu.txt setup.py
