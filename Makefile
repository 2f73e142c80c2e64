# Two commands do everything: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo experiments test test-all core lint format clean
.DEFAULT_GOAL := help

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed ## pretrain SimCLR on the embedded digits, evaluate, write a page
	$(BIN)/rl-jax pretrain simclr --data digits --steps 200

experiments: $(VENV)/.installed ## compute every claim of the text, write a page
	$(BIN)/rl-jax experiments

test: $(VENV)/.installed ## the quick tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m 'not slow'

test-all: $(VENV)/.installed ## every test, the long ones too, compiled as for a user
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --optimized

core: $(VENV)/.installed ## contract, losses, pairwise and resume only
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m 'core and not slow'

lint: $(VENV)/.installed ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.installed ## ruff, writing
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache
