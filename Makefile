# `make` lists the targets. ARGS="..." goes to the program that a target runs; PYTHON=python3.12 makes the
# environment with another Python than python3.

PYTHON ?=
ARGS ?=
TESTS ?= test/engine
BIN := .venv/bin
# A worker for each processor, up to 8: each starts servers of its own. ARGS="-n 0" runs all in one process.
WORKERS := -n auto --maxprocesses 8
BIN20 := .venv-sqlalchemy20/bin

export PYTHON

.DEFAULT_GOAL := help
.PHONY: help demo test test-sqlalchemy20 lint bench accuracy compat constraints pictures clean venv venv-demo servers

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1 /p' Makefile | while read -r name text; do printf '%-18s %s\n' "$$name" "$$text"; done

demo: venv-demo ## Run a shop on SQLite under traffic and show what querywatch finds
	@$(BIN)/querywatch demo $(ARGS)

test: venv servers ## Run the tests; make test ARGS="-k fingerprint"
	@$(BIN)/python -m pytest $(WORKERS) $(ARGS)

test-sqlalchemy20: servers ## Run the tests with the newest SQLAlchemy 2.0, in an environment of its own
	@sh scripts/make_venv.sh .venv-sqlalchemy20 sqlalchemy20
	@$(BIN20)/python -m pytest $(WORKERS) $(ARGS)

lint: venv ## Check style, format, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: venv servers ## Measure what querywatch costs per query
	@$(BIN)/python tests/benchmarks/hot_path.py $(ARGS)

accuracy: venv servers ## Measure what is found in programs with and without a known waste, on SQLAlchemy 2.1 and 2.0
	@sh scripts/make_venv.sh .venv-sqlalchemy20 sqlalchemy20
	@right=0; for bin in $(BIN) $(BIN20); do $$bin/python tests/accuracy/run.py $(ARGS) || right=1; done; exit $$right

compat: venv ## Run SQLAlchemy's own tests without and with querywatch; make compat TESTS="test/engine test/orm"
	@$(BIN)/python tests/compat/run.py $(TESTS) $(ARGS)

constraints: ## Make constraints.txt anew, with the newest versions that pyproject.toml allows
	@rm -rf .venv-newest
	@sh scripts/make_venv.sh .venv-newest newest
	@{ echo '# Exact versions of everything in the environment of the tests. Made by: make constraints'; \
	   .venv-newest/bin/python -m pip freeze --all --exclude-editable --exclude setuptools; } > .venv-newest/new.txt
	@mv .venv-newest/new.txt constraints.txt
	@rm -rf .venv-newest

pictures: venv-demo ## Make the README's pictures anew from a real demo (needs Chromium)
	@$(BIN)/python scripts/make_pictures.py

clean: ## Remove the environments and everything else that is made again
	rm -rf .venv .venv-* .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist

venv:
	@sh scripts/make_venv.sh .venv test

venv-demo:
	@sh scripts/make_venv.sh .venv demo

servers:
	@sh scripts/install_servers.sh
