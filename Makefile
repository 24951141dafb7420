# Everything on a fresh machine that has Python 3.11 and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SUDO := $(shell [ `id -u` = 0 ] || echo sudo)

.PHONY: setup demo test wheel browser compiler lint docs format clean

setup: $(READY)

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/genie-gym roms import --ale
	touch $@

demo: setup
	$(BIN)/genie-gym demo

test: setup browser compiler
	$(BIN)/python -m pytest -n 2 --dist loadfile

# The wheel is tried in an environment of its own.
wheel: setup
	.ci/wheel

# Pages are tested in a real browser.
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
	  echo "installing chromium and its driver for the tests of the pages"; \
	  $(SUDO) apt-get update -qq && \
	  $(SUDO) apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null; }
	@command -v npm >/dev/null || { \
	  echo "installing npm for the tests of worlds in the browser"; \
	  $(SUDO) apt-get update -qq && \
	  $(SUDO) apt-get install -y -qq --no-install-recommends npm >/dev/null; }

# Compiled dreams are tested with a real compiler.
compiler:
	@command -v g++ >/dev/null || { \
	  echo "installing g++ for the tests of compiled dreams"; \
	  $(SUDO) apt-get update -qq && \
	  $(SUDO) apt-get install -y -qq --no-install-recommends g++ >/dev/null; }

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Dead links and anchors are errors. Nothing is downloaded.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
