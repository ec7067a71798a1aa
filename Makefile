# `make demo` runs the service over the shipped texts, `make test` runs all that CI runs, `make test-fast` the inner loop.
# Needed beforehand: make, and Python 3.11 or newer with venv. `make PYTHON=/path/to/python3.12 demo` chooses another one.

PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	$$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { command -v $$name; break; }; done)
PIP := -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test lint tests test-fast docs dev architecture wheel-check bench clean
.DELETE_ON_ERROR:

demo: .venv/.installed
	@.venv/bin/encoder-tools demo $(ARGS)

# $(ARGS) selects: make test ARGS='tests/index -k search' runs those tests alone, after the linters.
ifdef ARGS
test: lint
	.venv-dev/bin/python -m pytest -q $(ARGS)
else
test: lint tests docs wheel-check
endif

lint: .venv-dev/.installed
	.venv-dev/bin/ruff check .
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/mypy

# One process per core; the tests of a file stay together, because they share trained models and running servers. Each
# process computes on one core (see tests/conftest.py). The bars of branch coverage are in pyproject.toml and below.
tests: .venv-dev/.installed
	.venv-dev/bin/python -m pytest -q $(PARALLEL) $(UNMEASURED)
	.venv-dev/bin/coverage erase
	.venv-dev/bin/coverage run -m pytest -q $(PARALLEL) --durations=25 $(addprefix --ignore=,$(UNMEASURED))
	.venv-dev/bin/coverage combine -q
	.venv-dev/bin/coverage report
	.venv-dev/bin/coverage report --fail-under=90 --format=total --include='$(TRAINING_CODE)'

# The inner loop: what takes less than five seconds per test.
test-fast: .venv-dev/.installed
	.venv-dev/bin/ruff check .
	.venv-dev/bin/mypy
	.venv-dev/bin/python -m pytest -q $(PARALLEL) -m 'not slow' $(ARGS)

PARALLEL := -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
# These take twice as long while lines are counted, and reach none that the other tests do not.
UNMEASURED := tests/encoder_tools/onnx_export/test_architectures.py tests/encoder_tools/training/test_train.py \
	tests/index/storage/test_kills.py tests/service/http/test_openapi.py
TRAINING_CODE := encoder_tools/training/*,encoder_tools/distillation/*,encoder_tools/extraction/*,encoder_tools/onnx_export/*

# Warnings are errors. Sphinx, because the docstrings are written in its markup.
docs: .venv-dev/.installed
	.venv-dev/bin/sphinx-build -W --keep-going -q -b html docs docs/_build/html

# Only the environment for training and testing.
dev: .venv-dev/.installed

# The wheel in an empty environment: the serving floor without torch, then extract and export.
wheel-check:
	.ci/wheel "$(PYTHON)"

bench: .venv/.installed .venv-dev/.installed
	.venv/bin/python -m benchmarks.serve_startup
	.venv-dev/bin/python -m benchmarks.extract_memory
	.venv-dev/bin/python -m benchmarks.request_overhead

# Draws the tree of folders into docs/architecture.md.
architecture: .venv-dev/.installed
	PYTHONPATH=tests .venv-dev/bin/python tests/draw_architecture.py

clean:
	rm -rf .venv .venv-dev build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The environments are made again only when what they hold has changed.
.venv/.installed: pyproject.toml constraints.txt
	@$(call fresh-venv,.venv)
	@echo "installing the serving floor into .venv (no torch); this happens once ..."
	@.venv/bin/python $(PIP) --editable .
	@touch $@

# torch comes first: its wheel is by far the largest, and a failure to find it should show at once.
.venv-dev/.installed: pyproject.toml constraints.txt
	@$(call fresh-venv,.venv-dev)
	@echo "installing torch and the tools for training and testing into .venv-dev; this happens once ..."
	@.venv-dev/bin/python -m pip --disable-pip-version-check install --quiet 'pip>=25.1'  # the first that reads groups
	@.venv-dev/bin/python $(PIP) torch
	@.venv-dev/bin/python $(PIP) --editable '.[train,bulk,code,documents,gguf,postgres,milvus,openvino,otel,ray,stemming]' --group dev --group docs --group clients
	@touch $@

define fresh-venv
	if [ -z "$(PYTHON)" ]; then \
		echo "error: no Python 3.11 or newer with venv was found. Install one (Debian: apt install python3 python3-venv)," >&2; \
		echo "       or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; fi; \
	"$(PYTHON)" -m venv --clear $(1)
endef
