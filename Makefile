# make demo  - an environment, a demo store, its index, a few searches
# make test  - lint, types, import rules and all tests that are not slow
# make test-all - the same with the slow tests and the types of tests
# make servers - Java 17 and Maven for the tests against a real Elasticsearch, Chromium for those of pages, promtool
#                for those of alert rules, nginx for those of proxies; make test runs it first
# make release - checks version and changelog, runs all tests, builds dist/ and tags the commit
# make record - writes tests/recorded_searches.tsv: 500 searches that the tests compare
# make lock  - renews requirements.lock from setup.cfg
# make gpu   - the same environment with FAISS for NVIDIA GPUs
# make clean - removes what make made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv
UV_VERSION := 0.13.9
# Both packages fill one folder, so one must go before the other comes.
USE_GPU = $(UV) pip uninstall faiss-cpu faiss-gpu && $(UV) pip install "faiss-gpu>=1.12"

VERSION = $(shell sed -n 's/^version = //p' setup.cfg)

# The marker is described in setup.cfg.
SELECTED = -m "not slow"

# What the tests call a usable Java, so that make and they never disagree.
FIND_JAVA = $(BIN)/python -c "from tests.servers import distribution as d; d.find_java(d.VERSION_8)" 2>/dev/null
FIND_NGINX = PATH="$$PATH:/usr/sbin" command -v nginx >/dev/null
FIND_CHROMIUM = { command -v chromium-headless-shell || command -v chromium; } >/dev/null
APT_INSTALL = DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends

# Without bytecode every process compiles all that it imports; uv, unlike pip, leaves that to the first import.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all lint types imports servers tests release record releasable lock gpu clean

demo: $(VENV)/.installed
	$(BIN)/shelfwise demo

# Side by side: the checks use what the tests leave of the processors while they wait.
test: $(VENV)/.installed
	$(MAKE) --jobs lint types imports tests

test-all:
	$(MAKE) test SELECTED=--hypothesis-profile=thorough TYPED="shelfwise tests"

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy $(TYPED)

imports: $(VENV)/.installed
	$(BIN)/lint-imports

# Debian and Ubuntu each carry one of the two Javas. What cannot be installed is no error here: the tests say it.
servers: $(VENV)/.installed
	@if $(FIND_JAVA) && command -v mvn >/dev/null && command -v openssl >/dev/null && $(FIND_CHROMIUM) && \
		command -v promtool >/dev/null && $(FIND_NGINX); then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq; \
		$(APT_INSTALL) openssl maven openjdk-17-jre-headless || $(APT_INSTALL) openssl maven openjdk-21-jre-headless || \
		echo "not all could be installed: tests against a real Elasticsearch are skipped"; \
		$(APT_INSTALL) chromium-headless-shell || $(APT_INSTALL) chromium || \
			echo "Chromium could not be installed: tests of pages are skipped"; \
		$(APT_INSTALL) prometheus || echo "promtool could not be installed: tests of alert rules are skipped"; \
		$(APT_INSTALL) nginx || echo "nginx could not be installed: tests of proxies are skipped"; \
	else \
		$(FIND_JAVA) || echo "missing: Java 17 or newer (openjdk-17-jre-headless)"; \
		command -v mvn >/dev/null || echo "missing: Maven (maven)"; \
		command -v openssl >/dev/null || echo "missing: openssl (openssl)"; \
		$(FIND_CHROMIUM) || echo "missing: Chromium (chromium)"; \
		command -v promtool >/dev/null || echo "missing: promtool (prometheus)"; \
		$(FIND_NGINX) || echo "missing: nginx (nginx)"; \
		echo "without them, tests against a real Elasticsearch, of pages, alert rules or proxies are skipped"; \
	fi

tests: servers
	HF_HUB_OFFLINE=1 $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder $(SELECTED)

release: releasable $(VENV)/.installed
	$(MAKE) test-all
	rm -rf dist
	$(UV) build --quiet
	git tag --annotate v$(VERSION) --message "Shelfwise $(VERSION)"
	@echo "dist/ has the wheel; now: git push origin main v$(VERSION)"

# After an intended change of ranking.
record: $(VENV)/.installed
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.recorded_searches record

# What must be true of a commit before it is released.
releasable:
	@test -z "$$(git status --porcelain)" || { echo "there are changes: commit them first"; exit 1; }
	@! git rev-parse --quiet --verify refs/tags/v$(VERSION) >/dev/null || \
		{ echo "v$(VERSION) is tagged already: raise the version in setup.cfg"; exit 1; }
	@grep --quiet "^## $(VERSION) - 20" CHANGELOG.md || \
		{ echo "CHANGELOG.md has no \"## $(VERSION) - YYYY-MM-DD\": describe the version and give its date"; exit 1; }

lock: $(BIN)/uv
	$(UV) pip compile setup.cfg --extra test --universal --python-version 3.11 --generate-hashes \
		--quiet --custom-compile-command "make lock" --output-file requirements.lock

# The stamp keeps faiss-gpu when a renewed lock file installs everything again.
gpu: $(VENV)/.installed
	touch $(VENV)/.gpu
	$(USE_GPU)

clean:
	rm -rf $(VENV) demo-store .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info

$(BIN)/uv:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Shelfwise needs Python 3.11 or newer')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(VENV)/.installed: requirements.lock setup.cfg pyproject.toml | $(BIN)/uv
	$(UV) pip sync --quiet --require-hashes requirements.lock
	$(UV) pip install --quiet --no-deps --editable .
	if [ -f $(VENV)/.gpu ]; then $(USE_GPU); fi
	touch $@
