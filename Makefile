# Every target first makes sure that .venv is complete (milliseconds when it is).
# Options travel in ARGS, and configuration also by itself:
#   make run data.name=digits train.epochs=3
#   make run ARGS=--dry data.name=digits
#   make run ARGS="--engine vertex --runtime_parameter data.name=digits"
PYTHON ?= python3
PROJECT_PYTHON = .venv/bin/python

# Make takes `data.name=digits` as a variable of its own. Its own are in capitals, so the
# others are configuration: handed on where that is taken, refused elsewhere.
LETTERS = a% b% c% d% e% f% g% h% i% j% k% l% m% n% o% p% q% r% s% t% u% v% w% x% y% z%
WORDS := $(foreach word,$(MAKEOVERRIDES),$(firstword $(subst =, ,$(word))))
GIVEN := $(foreach name,$(sort $(filter $(LETTERS),$(WORDS))),$(if $(filter command,$(origin $(name))),$(name)))
OVERRIDES = $(foreach name,$(GIVEN),'$(subst ','\'',$(name)=$($(name)))')
ifneq ($(GIVEN),)
OTHERS := $(filter-out setup run config report models study,$(or $(MAKECMDGOALS),help))
ifneq ($(OTHERS),)
$(error make $(firstword $(OTHERS)) takes no $(firstword $(GIVEN))=...: configuration \
goes to make run, config, report, models and study; options of other programs go into ARGS, as in \
make serve ARGS=--web_page)
endif
endif

.DEFAULT_GOAL := help
.PHONY: help setup run config report models study propagation lesions serve deploy test test-bench test-client test-fast e2e bench bench-train bench-serve bench-verdict check docs docs-check format lint types imports architecture lock clean

help: ## this list
	@awk -F ':[^#]*## ' '/^[a-z0-9-]+:.*## / { printf "%-15s%s\n", $$1, $$2 }' Makefile

setup: ## build .venv, or do nothing if it is current
	@$(PYTHON) scripts/setup.py

run: setup ## train, compare and publish (ResNet-164 both ways, data auto; preset=fast: ResNet-20, preset=smoke: quickest)
	@$(PROJECT_PYTHON) pipeline.py run $(ARGS) $(OVERRIDES)

config: setup ## every setting, where its value comes from, and what it means
	@$(PROJECT_PYTHON) pipeline.py config $(ARGS) $(OVERRIDES)

report: setup ## write the last run's report again
	@$(PROJECT_PYTHON) pipeline.py report $(ARGS) $(OVERRIDES)

models: setup ## published versions with their verdicts (ARGS="rollback VERSION" publishes one again)
	@$(PROJECT_PYTHON) pipeline.py models $(ARGS) $(OVERRIDES)

study: setup ## a table of the papers with intervals: STUDY=arrangements|shortcuts|plain|depth|batch SCALE=small|paper (without STUDY: the list)
	@$(PROJECT_PYTHON) pipeline.py study $(STUDY) $(if $(SCALE),--scale $(SCALE)) $(ARGS) $(OVERRIDES)

propagation: setup ## signals and gradients of untrained networks, 20 to 1001 layers, against the papers' equations; five minutes
	@$(PROJECT_PYTHON) -m studies.propagation $(ARGS)

lesions: setup ## the last run's trained networks, with each unit in turn removed or swapped
	@$(PROJECT_PYTHON) -m studies.propagation lesions $(ARGS)

serve: setup ## serve output/serving on 127.0.0.1: gRPC 8500, REST 8501 (ARGS=--web_page for a page)
	@test -d output/serving/cifar -o -n "$(findstring --model_,$(ARGS))" || \
		echo "nothing published yet: \`make run\` makes a model, and the server waits for it" >&2
	@$(PROJECT_PYTHON) -m serving.server --port=8500 --rest_api_port=8501 \
		--model_name=cifar --model_base_path=output/serving/cifar $(ARGS)

deploy: setup ## write what TF Serving in production needs to output/deploy
	@$(PROJECT_PYTHON) -m serving.deploy $(ARGS)

test: setup ## all tests, whole pipeline runs included, by two processes
	@$(PROJECT_PYTHON) -m pytest tests -m "not bench and not registry" -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-bench: setup ## trial runs of the benchmarks, two minutes
	@$(PROJECT_PYTHON) -m pytest tests -m bench $(ARGS)

test-client: setup ## the client's wheel alone on Python 3.10 to 3.14 (from a package registry), a minute
	@$(PROJECT_PYTHON) -m pytest tests/serving/client -m registry $(ARGS)

test-fast: setup ## tests that load no TensorFlow
	@$(PROJECT_PYTHON) -m pytest tests -m "not tf and not e2e and not registry" $(ARGS)

e2e: setup ## whole pipeline runs only
	@$(PROJECT_PYTHON) -m pytest tests -m e2e $(ARGS)

bench-train: setup ## measure training against Keras and PyTorch (if installed); 15 minutes
	@$(PROJECT_PYTHON) -m benchmarks.train $(ARGS)

bench-serve: setup ## measure the server against the bare model; 10 minutes
	@$(PROJECT_PYTHON) -m benchmarks.serve $(ARGS)

bench-verdict: setup ## how often the verdict is right, and what evaluating costs; 25 minutes
	@$(PROJECT_PYTHON) -m benchmarks.verdict $(ARGS)

bench: setup ## what is promised about speed, and what was measured last (ARGS=--run measures first, over an hour)
	@$(PROJECT_PYTHON) -m benchmarks $(ARGS)

check: setup lint types imports docs-check ## format, lint, types, direction of imports, documentation, current locks
	@$(PROJECT_PYTHON) scripts/lock.py --check

lint: setup
	@$(PROJECT_PYTHON) -m ruff format --check . && $(PROJECT_PYTHON) -m ruff check .

types: setup
	@$(PROJECT_PYTHON) -m basedpyright
	@$(PROJECT_PYTHON) -m basedpyright --pythonversion 3.10 serving/client

docs: setup ## read the documentation at http://127.0.0.1:8000
	@.venv/bin/mkdocs serve $(ARGS)

docs-check: setup
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build

architecture: setup ## draw docs/architecture.svg from the contracts of imports
	@$(PROJECT_PYTHON) -m scripts.architecture

imports: setup
	@.venv/bin/lint-imports --no-logo

format: setup ## rewrite the files in ruff's format
	@$(PROJECT_PYTHON) -m ruff format . && $(PROJECT_PYTHON) -m ruff check --fix .

lock: setup ## compile requirements*.txt from pyproject.toml (ARGS=--upgrade for newer ones)
	@$(PROJECT_PYTHON) scripts/lock.py $(ARGS)

clean: ## remove .venv (output/ stays)
	@rm -rf .venv
