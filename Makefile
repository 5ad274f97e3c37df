# Everything a fresh machine with Python 3.11+ and make needs: `make search` or `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export RAY_USAGE_STATS_ENABLED = 0
export RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO = 0

.PHONY: setup search mlflow wheel test test-numeric test-slow lint docs docs-figures snippets bench clean

setup: $(READY)

# Rerun when the pins or the package's metadata change; otherwise a no-op.
$(READY): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "resnet-search needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	@command -v nvidia-smi >/dev/null || echo "No NVIDIA GPU here; PyPI's PyTorch for Linux brings CUDA's libraries all the same. pytorch.org/get-started has one without, 200 MB."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setup, 1 of 2: PyTorch, several GB with CUDA's libraries"
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt torch torchvision
	@echo "setup, 2 of 2: Ray, Optuna, MLflow and what the tests need, a minute or two"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

search: setup
	$(BIN)/python -m search.run digits_resnet8

# An MLflow for a team; docs/tracking.md. Its runs are in mlflow-server/, which `make clean` leaves alone.
mlflow: setup
	@PATH="$(abspath $(BIN)):$$PATH" deploy/mlflow-server.sh

# What the nodes of a cluster install.
wheel: setup
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	cp constraints.txt dist/
	rm -rf build

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two processes: much of a test is waiting for Ray, MLflow or a browser to start.
test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m 'not slow and not gpu and not network'

test-slow: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m 'slow and not gpu and not network'

# The same results on an older processor: torch's kernels for AVX2 instead of those that this one chooses.
test-numeric: setup
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(BIN)/python -m pytest -m 'numeric and not slow and not gpu'

# What the documentation derives from the code.
docs: setup
	$(BIN)/python docs/generate.py

# Every picture, from real runs, an hour of them on CIFAR-10: needs Chromium; `$(BIN)/python docs/figures.py NAME` makes one.
docs-figures: docs
	$(BIN)/python docs/figures.py

# What the documentation says to type, as far as it was never run: minutes. docs/snippets.json says when each was.
snippets: setup
	$(BIN)/python docs/run_snippets.py

# Prints tables; asserts nothing. RESNET_SEARCH_DATA: a folder with cifar10_jpeg/*.parquet; else CIFAR-10 is downloaded.
bench: setup
	$(BIN)/python -m benchmarks.throughput --repeats 2
	$(BIN)/python -m benchmarks.startup --repeats 2
	$(BIN)/python -m benchmarks.loading --repeats 2
	$(BIN)/python -m benchmarks.search_time --seeds 2

clean:
	rm -rf $(VENV) runs dist
