# Every target first makes sure that .venv is complete (milliseconds when it is).
# Options travel in ARGS:  make run ARGS="--runtime_parameter data.name=digits"
PYTHON ?= python3
PROJECT_PYTHON = .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup run report test test-bench test-fast e2e bench-train check format lint types lock clean

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## /\1\t/p' Makefile | expand -t 12

setup: ## build .venv, or do nothing if it is current
	@$(PYTHON) scripts/setup.py

run: setup ## train, compare and publish (preset quick, data auto)
	@$(PROJECT_PYTHON) pipeline.py run $(ARGS)

report: setup ## write the last run's report again
	@$(PROJECT_PYTHON) pipeline.py report $(ARGS)

test: setup ## all tests, whole pipeline runs included
	@$(PROJECT_PYTHON) -m pytest tests -m "not bench" $(ARGS)

test-bench: setup ## trial runs of the benchmarks, two minutes
	@$(PROJECT_PYTHON) -m pytest tests -m bench $(ARGS)

test-fast: setup ## tests that load no TensorFlow
	@$(PROJECT_PYTHON) -m pytest tests -m "not tf and not e2e" $(ARGS)

e2e: setup ## whole pipeline runs only
	@$(PROJECT_PYTHON) -m pytest tests -m e2e $(ARGS)

bench-train: setup ## measure training against Keras and PyTorch (if installed); 15 minutes
	@$(PROJECT_PYTHON) -m benchmarks.train $(ARGS)

check: setup lint types ## format, lint, types, and whether the locks are current
	@$(PROJECT_PYTHON) scripts/lock.py --check

lint: setup
	@$(PROJECT_PYTHON) -m ruff format --check . && $(PROJECT_PYTHON) -m ruff check .

types: setup
	@$(PROJECT_PYTHON) -m basedpyright

format: setup ## rewrite the files in ruff's format
	@$(PROJECT_PYTHON) -m ruff format . && $(PROJECT_PYTHON) -m ruff check --fix .

lock: setup ## compile requirements*.txt from pyproject.toml (ARGS=--upgrade for newer ones)
	@$(PROJECT_PYTHON) scripts/lock.py $(ARGS)

clean: ## remove .venv (output/ stays)
	@rm -rf .venv
