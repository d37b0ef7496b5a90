# Two commands: `make run` and `make test`. PIP_FLAGS is passed to pip, for a mirror or for PyTorch's CPU wheels;
# WORKERS is the number of processes that test.
PIP_FLAGS ?=
RUN_FLAGS ?=
WORKERS ?= 2
SCREENSHOTS ?= ../trimtab-screenshots
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test test-long lint bench screenshots clean install
.DEFAULT_GOAL := run

run: $(STAMP)
	@exec $(BIN)/trimtab up --demo $(RUN_FLAGS)

test: lint
	$(BIN)/python -m pytest -m "not long" -n $(WORKERS) --dist worksteal

test-long: $(STAMP)
	$(BIN)/python -m pytest -m long

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy clients/python/trimtab_client
	$(BIN)/lint-imports

# Those left out need a trained bundle, a browser, or many minutes: their docstrings say how they are run.
bench: $(STAMP)
	@for file in $(filter-out $(addprefix benchmarks/,loop_http.py console.py calm.py real_data.py),$(wildcard benchmarks/*.py)); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

screenshots: $(STAMP)
	$(BIN)/python tests/screenshots.py $(SCREENSHOTS)

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	for candidate in python3.12 python3.11 python3; do \
	  if $$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then \
	    python=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Trimtab needs Python 3.11 or 3.12 on the PATH: apt-get install python3 python3-venv" >&2; exit 1; \
	fi; \
	if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "$$python has no venv module: apt-get install python3-venv" >&2; exit 1; \
	fi; \
	test -x $(BIN)/python || $$python -m venv $(VENV); \
	$(BIN)/python -m pip install $(PIP_FLAGS) -q --upgrade -c constraints.txt pip; \
	$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[train,console,recipes,dev]'
	@touch $(STAMP)

clean:
	rm -rf $(VENV) .trimtab .mypy_cache .ruff_cache .pytest_cache *.egg-info build
