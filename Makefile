# Both targets work in a fresh clone on a machine with Python 3.11+, pip, git and a C compiler.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# make DEMO= demo tells the whole story, in about ten minutes.
DEMO   ?= --quick
STAMP  := $(VENV)/.installed

.PHONY: demo test test-slow test-vllm gpu-check lint bench docs clean

demo: $(STAMP)
	$(BIN)/olmeval demo $(DEMO)

test: $(STAMP)
	PYTHON="$(PYTHON)" BIN="$(BIN)" bash scripts/test.sh

test-slow: $(STAMP)
	PYTHON="$(PYTHON)" BIN="$(BIN)" bash scripts/test.sh slow

test-vllm:
	PYTHON="$(PYTHON)" bash scripts/test-vllm.sh

# Runs from the source, with whatever Python has torch: a GPU machine may have no network.
gpu-check:
	PYTHONPATH=. $(or $(wildcard $(BIN)/python),$(PYTHON)) scripts/gpu_check.py --write

lint: $(STAMP)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# The documentation, its links checked: build/site/index.html
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(STAMP)
	for b in benchmarks/scoring.py benchmarks/planning.py benchmarks/trainer.py benchmarks/ladders.py benchmarks/decide.py benchmarks/mixing.py benchmarks/sandbox.py benchmarks/viewer.py benchmarks/report.py; do $(BIN)/python $$b || exit 1; done

$(STAMP): pyproject.toml constraints.txt scripts/setup.sh
	PYTHON="$(PYTHON)" VENV="$(VENV)" bash scripts/setup.sh
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info demo runs
