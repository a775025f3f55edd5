# Every target does its own set-up: a .venv here, nothing asked, nothing outside this folder touched.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
EXTRAS := opencv,ros,builder,eval,sim,dev
PIP    := $(PY) -m pip --disable-pip-version-check --no-input

.PHONY: fly test check lint setup bench engines train-setup test-oldest clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready  ## make .venv with everything a machine without ROS needs

$(VENV)/.ready: setup.py constraints.txt uav_perception/ros/interfaces/build.py uav_perception/camera/bag_types.py
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "Python %d.%d found; expected 3.10 or newer; run make PYTHON=/path/to/python3.11" % sys.version_info[:2])'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python without venv; expected the venv module; apt install python3-venv"; exit 2; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	$(PIP) install --quiet --constraint constraints.txt --no-deps trackeval
	$(PY) -m uav_perception.ros.interfaces.build
	touch $@

fly: setup  ## the whole graph live on the demo flight; writes out/fly/
	$(PY) -m uav_perception.cli.main fly --out out/fly

test: setup  ## the whole test suite
	$(PY) -m pytest

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

check: lint test  ## ruff, mypy --strict and the tests

bench: setup  ## all benchmarks, JSON in out/bench/
	mkdir -p out/bench
	for b in transport pipeline tracker engine depth replay; do \
	  $(PY) -m uav_perception.cli.main bench $$b --json > out/bench/$$b.json || exit 1; done

train-setup: setup  ## PyTorch for `uav-perception train`
	$(PIP) install --quiet --constraint constraints.txt '.[train]'

PYTHON_OLDEST ?= python3.10
test-oldest:  ## unit tests on the oldest supported versions (Python 3.10, numpy 1.26, OpenCV 4.8)
	test -x .venv-oldest/bin/python || $(PYTHON_OLDEST) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable '.[opencv,builder,eval,sim,dev]'
	.venv-oldest/bin/python -m pip install --quiet --no-deps trackeval
	.venv-oldest/bin/python -m pytest --ignore test/ros

clean:
	rm -rf .venv .venv-oldest out build *.egg-info
