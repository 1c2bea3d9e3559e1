# Pinpoint's commands. Each makes its own .venv beside this file and installs what it needs, once.
#
#   make demo       invert an image, optimize its tokens, edit it: images and a report in out/demo
#   make test       the fast tests            make test-all   every test
#   make test-comfyui   the tests in a real ComfyUI (COMFYUI_DIR, else ~/ComfyUI), with its frontend and the newest
#   make screenshots    the README's images of ComfyUI, made in a browser
#   make bench      the methods, as a table   make lint       ruff and mypy
#   make clean      remove caches and the demo (make distclean: the .venv too)

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.installed
READY_DEV := $(VENV)/.installed-dev
# Files of tests run side by side, this many at a time; those in ComfyUI one after the other.
JOBS ?= 2
SIDE_BY_SIDE := -n $(JOBS) --dist loadfile --no-loadscope-reorder
NEWEST_FRONTEND := .venv-comfyui/newest-frontend/comfyui_frontend_package/static

# An editable install remembers where it was made, so a checkout that has moved installs again.
installed_here = $(shell test "$$(cat $(1) 2>/dev/null)" = "$$(pwd -P)" && echo yes)
again_if_moved = $(if $(call installed_here,$(1)),,FORCE)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all test-comfyui screenshots bench lint clean distclean FORCE

help:
	@sed -n 's/^#  *\(make .*\)/\1/p' Makefile

demo: $(READY)
	$(RUN) -m pinpoint demo --out out/demo

test: $(READY_DEV)
	$(RUN) -m pytest $(SIDE_BY_SIDE) -m "not slow" --durations=10

test-all: $(READY_DEV)
	$(RUN) -m pytest $(SIDE_BY_SIDE) --durations=10 --ignore tests/comfyui
	$(RUN) -m pytest --durations=10 tests/comfyui

test-comfyui: $(READY_DEV)
	$(RUN) tests/comfyui/prepare.py --newest-frontend
	$(RUN) -m pytest tests/comfyui -rs
	test ! -d $(NEWEST_FRONTEND) || COMFYUI_FRONTEND="$(CURDIR)/$(NEWEST_FRONTEND)" \
	  $(RUN) -m pytest tests/comfyui/test_browser_*.py -rs

screenshots: $(READY_DEV)
	$(RUN) tests/comfyui/prepare.py
	$(RUN) tests/comfyui/screenshots.py

bench: $(READY_DEV)
	$(RUN) tests/benchmarks/bench.py

lint: $(READY_DEV)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	@mkdir -p $(VENV)/typecheck && ln -sfn ../.. $(VENV)/typecheck/pinpoint
	$(RUN) -m mypy -p pinpoint

$(READY): pyproject.toml setup.py $(call again_if_moved,$(READY))
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -e .
	@pwd -P > $@

$(READY_DEV): pyproject.toml setup.py $(call again_if_moved,$(READY_DEV))
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -e ".[dev,all]"
	@pwd -P > $(READY)
	@pwd -P > $@

clean:
	rm -rf out/demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) .venv-comfyui
