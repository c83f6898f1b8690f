# make demo and make test set up what they need themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: setup demo test coverage lint soak bench lock clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(BIN)/simsong pretrained fetch || true      # all works without, less well
	touch $@

demo: setup          ## the whole DAG on a synthetic world, served on loopback: no account, no network
	$(BIN)/simsong run --demo

test: setup          ## the suite, a process a core; no network
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/pyright --threads 2
	$(BIN)/lint-imports

coverage: setup      ## the suite, with the lines that no test runs; a fifth slower
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --cov --cov-report=term-missing:skip-covered

soak: setup          ## the long kill and fault runs
	$(BIN)/python -m pytest -m soak -o addopts= -v

bench: setup
	$(BIN)/python -m benchmarks

lock: setup          ## constraints.txt from what is installed
	$(BIN)/python -m pip freeze --exclude-editable | grep -v ' @ ' | sed 's/+cpu//' > constraints.txt

clean:
	rm -rf $(VENV) simsong-demo .pytest_cache .ruff_cache .hypothesis .coverage
