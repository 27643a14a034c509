# Every target sets up what it needs by itself, in .venv. Nothing but python3 (3.11 or newer), pip and make is assumed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
MEMBERS := $(patsubst %/pyproject.toml,%,$(sort $(wildcard plugins/*/pyproject.toml contrib/*/pyproject.toml)))
PROJECTS := pyproject.toml constraints.txt $(addsuffix /pyproject.toml,$(MEMBERS))
SOURCES := go_services_core plugins contrib tests benchmarks docs
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test lint types chaos docs bench wheels constraints clean

setup: $(STAMP)

$(STAMP): $(PROJECTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt \
		--group dev -e ".[testing]" $(addprefix -e ./,$(MEMBERS))
	@$(BIN)/python -m compileall -q go_services_core plugins contrib
	@touch $@

demo: setup
	@$(BIN)/go-services demo

test: setup lint types
	@$(BIN)/python -m pytest -n 3 --dist loadgroup
	@$(MAKE) --no-print-directory wheels docs

lint: setup
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

types: setup
	@$(BIN)/mypy

# The full counts of the kill tests; `make test` runs each a few times.
chaos: setup
	@CHAOS=1 $(BIN)/python -m pytest -m chaos -n 0 --timeout 1800

docs: setup
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# The peers are wanted here only.
bench: setup
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt --group bench
	@$(BIN)/python -m benchmarks.run --only "$(ONLY)"

# Every wheel, installed with plain pip into an empty environment, where the plugins must be found.
wheels: setup
	@$(BIN)/python tests/wheels/check.py

# Versions that the tests were run with, for every platform; without addresses.
constraints: setup
	@$(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
		--python-version 3.11 --upgrade --group dev --group bench --all-extras pyproject.toml \
		$(addsuffix /pyproject.toml,$(MEMBERS)) | grep -v -e '^go-services' -e '^-e ' -e '^file:' > constraints.new
	@mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) .venvs build dist docs/_build .mypy_cache .pytest_cache .ruff_cache
