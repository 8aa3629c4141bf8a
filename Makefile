# Every target makes .venv first, with the versions that constraints.txt pins.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
OUT ?= runs/quick
RECORD ?= runs/faults.jsonl
ATTACKS ?= runs/attacks.jsonl

.PHONY: simulate test test-slow faults attacks check bench clean

simulate: .venv/runs  ## three phantom hospitals through both phases, in minutes
	$(BIN)/roiae-server simulate --config quick --out $(OUT) --resume

test: .venv/develops  ## the quick tests, on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile $(COVERAGE)

test-slow: .venv/develops  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

faults: .venv/develops  ## kill, cut and cheat between real processes, for an hour; writes docs/RELIABILITY.md
	mkdir -p $(dir $(RECORD)) && rm -f $(RECORD)
	$(BIN)/python -m pytest -m faults --faults-record $(RECORD) tests/faults
	$(BIN)/python -m tests.faults.page $(RECORD)

attacks: .venv/develops  ## try to read frames, under an hour; writes the table of docs/PRIVACY.md
	mkdir -p $(dir $(ATTACKS)) && rm -f $(ATTACKS)
	$(BIN)/python -m pytest -m attacks --attacks-record $(ATTACKS) tests/attacks
	$(BIN)/python -m tests.attacks.page $(ATTACKS)

check: .venv/develops  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/develops  ## how fast, beside a plain loop: minutes; prints a table, writes bench/results.json
	$(BIN)/python -m bench

clean:
	rm -rf .venv dist runs

# torch comes first and by its exact version: asked for by a range, pip may take another build of it.
.venv/runs: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "roiae needs Python 3.11 or newer: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --constraint constraints.txt torch==2.13.0 hatchling
	$(PIP) install --constraint constraints.txt --no-build-isolation --editable .
	touch $@

.venv/develops: .venv/runs
	$(PIP) install --constraint constraints.txt --no-build-isolation --editable '.[dev,dicom,onnx,ray,tensorboard]'
	touch $@
