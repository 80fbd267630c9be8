# make demo  - an environment, a demo store, its index, a few searches
# make test  - lint, types, import rules and tests
# make lock  - renews requirements.lock from setup.cfg
# make gpu   - the same environment with FAISS for NVIDIA GPUs
# make clean - removes what make made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv

.PHONY: demo test lint types imports tests lock gpu clean

demo: $(VENV)/.installed
	$(BIN)/shelfwise demo

test: lint types imports tests

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

imports: $(VENV)/.installed
	$(BIN)/lint-imports

tests: $(VENV)/.installed
	HF_HUB_OFFLINE=1 $(BIN)/pytest -n auto

lock: $(BIN)/uv
	$(UV) pip compile setup.cfg --extra demo --extra test --universal --python-version 3.11 --generate-hashes \
		--quiet --custom-compile-command "make lock" --output-file requirements.lock

gpu: $(VENV)/.installed
	$(UV) pip uninstall faiss-cpu
	$(UV) pip install "faiss-gpu>=1.12"

clean:
	rm -rf $(VENV) demo-store .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

$(BIN)/uv:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Shelfwise needs Python 3.11 or newer')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.installed: requirements.lock setup.cfg pyproject.toml | $(BIN)/uv
	$(UV) pip sync --quiet --require-hashes requirements.lock
	$(UV) pip install --quiet --no-deps --editable .
	touch $@
