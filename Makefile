# Everything happens in $(VENV); nothing is installed outside it.
PYTHON ?= python3
VENV ?= .venv
FLAGS ?=
# Where the four original files of MNIST are, if they are here: then the tests on it run too.
MNIST_DIR ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/installed
# The extras take as long to install as all the rest: training does without.
EXTRAS := $(VENV)/installed-extras
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: install extras locked lock licenses train test test-slow lint clean

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
	  { echo "error: Python 3.10 to 3.13 is needed: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) --editable '.[dev]'
	touch $@

extras: $(EXTRAS)

$(EXTRAS): $(STAMP)
	$(PIP) --editable '.[all]'
	touch $@

# The same environment from files whose hashes are checked; the package itself is built here.
locked:
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	  --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	$(BIN)/python -m pip check
	touch $(STAMP) $(EXTRAS)

# The hashes of the pins, by uv, when constraints.txt has changed.
lock:
	uv pip compile --quiet --universal --python-version 3.10 --extra dev --extra all setup.cfg \
	  --no-annotate --no-header --no-emit-index-url --no-emit-find-links \
	  --constraint constraints.txt --generate-hashes --output-file requirements.lock

licenses: extras
	$(BIN)/python scripts/licenses.py > /dev/null

train: install
	$(BIN)/python -m mnist_research.train --flagfile=configs/dense.cfg $(FLAGS)

test: extras
	MNIST_RESEARCH_MNIST_DIR='$(MNIST_DIR)' $(BIN)/python -m pytest -n 2 --dist=worksteal $(FLAGS)

test-slow: extras
	MNIST_RESEARCH_MNIST_DIR='$(MNIST_DIR)' $(BIN)/python -m pytest -n 2 -m slow $(FLAGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/typos
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info
