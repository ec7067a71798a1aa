# Two commands: `make demo` runs the service over the shipped texts, `make test` runs all that CI runs.
# Needed beforehand: make, and Python 3.11 or newer with venv. `make PYTHON=/path/to/python3.12 demo` chooses another one.

PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	$$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { command -v $$name; break; }; done)
PIP := -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test dev architecture wheel-check bench clean
.DELETE_ON_ERROR:

demo: .venv/.installed
	@.venv/bin/encoder-tools demo $(ARGS)

test: .venv-dev/.installed
	.venv-dev/bin/ruff check .
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/mypy
	$(if $(ARGS),.venv-dev/bin/python -m pytest -q $(ARGS),$(tests-with-coverage))
	.ci/wheel "$(PYTHON)"

# Branch coverage of what runs without torch; its bar is in pyproject.toml. Tests of what needs torch run apart, because
# counting lines makes torch's tracing much slower and adds none that are asked for.
TORCH_TESTS := $(addprefix tests/encoder_tools/,distillation training extraction onnx_export)
define tests-with-coverage
	.venv-dev/bin/python -m pytest -q $(TORCH_TESTS)
	.venv-dev/bin/coverage erase
	.venv-dev/bin/coverage run -m pytest -q $(addprefix --ignore=,$(TORCH_TESTS))
	.venv-dev/bin/coverage combine -q
	.venv-dev/bin/coverage report
endef

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
	@.venv-dev/bin/python $(PIP) torch
	@.venv-dev/bin/python $(PIP) --editable '.[train,dev,clients,otel,stemming]'
	@touch $@

define fresh-venv
	if [ -z "$(PYTHON)" ]; then \
		echo "error: no Python 3.11 or newer with venv was found. Install one (Debian: apt install python3 python3-venv)," >&2; \
		echo "       or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; fi; \
	"$(PYTHON)" -m venv --clear $(1)
endef
