# Two commands do all: `make quickstart` and `make test`. Everything is installed into .venv, nothing elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RECENT := import sys; sys.exit(sys.version_info < (3, 11))

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-slow lab setup export outputs readme publish constraints clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo "  PYTHON=...        the Python (3.11 or newer) that .venv is made from; now: $(PYTHON)"

quickstart: $(READY) ## train, measure, save and show a recommender on real data, on a CPU
	$(BIN)/userllm quickstart

test: $(READY) ## all tests but the slow ones, one process a core; those that start Ray have the machine to themselves
	$(BIN)/python -m pytest -m "not slow and not ray" -n auto
	$(BIN)/python -m pytest -m "not slow and ray" $$(grep -l 'mark\.ray' tests/test_*.py)

test-slow: $(READY) ## the slow tests alone
	$(BIN)/python -m pytest -m slow || [ $$? -eq 5 ]  # 5: there are none

lab: $(READY) ## JupyterLab on the notebooks; more flags for it in FLAGS=...
	$(BIN)/jupyter-lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/nbs $(FLAGS)

setup: $(READY) ## install or bring up to date what the other targets need

# The stamp is written last, so an interrupted installation is taken up again.
$(READY): settings.ini setup.py constraints.txt requirements-offline.txt
	@{ $(BIN)/python -c '$(RECENT)' && $(BIN)/python -m pip --version; } >/dev/null 2>&1 || { \
	  $(PYTHON) -c '$(RECENT)' 2>/dev/null || { \
	    echo "userllm needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1)." >&2; \
	    echo "Name another one, for example: make $(firstword $(MAKECMDGOALS) test) PYTHON=python3.12" >&2; exit 1; }; \
	  echo "Making $(VENV) from $$($(PYTHON) --version)"; \
	  $(PYTHON) -m venv --clear $(VENV) || { \
	    echo "Python could not make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; }
	@echo "Installing into $(VENV): about 3 GB to download and a few minutes the first time"
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps -r requirements-offline.txt
	@touch $@

export: $(READY) ## notebooks -> userllm/ and the names that help lists, and clean the notebooks
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean
	$(BIN)/python tools/build_names.py

outputs: $(READY) ## run every notebook and store what it shows; minutes, two notebooks at a time
	$(BIN)/python tools/store_outputs.py
	$(BIN)/nbdev_clean
	$(BIN)/python tools/build_readme.py

readme: $(READY) ## nbs/index.ipynb -> README.md
	$(BIN)/python tools/build_readme.py

publish: $(READY) ## what quickstart left in runs/ -> results/quick, and the notebooks and README that show it
	$(BIN)/python tools/publish.py quick
	$(BIN)/python tools/store_outputs.py nbs/experiments/quick.ipynb nbs/index.ipynb nbs/workbench/*.ipynb
	$(BIN)/nbdev_clean
	$(BIN)/python tools/build_readme.py

# Freezes what .venv holds now. To move to newer versions: .venv/bin/pip install --upgrade NAME, make test, make constraints.
constraints: $(READY) ## .venv -> constraints.txt
	$(BIN)/python tools/build_constraints.py

clean: ## remove build products and caches; keeps .venv, runs/ and the stage cache
	rm -rf build dist *.egg-info _proc _docs .pytest_cache nbs/nbdev.yml nbs/sidebar.yml nbs/.last_checked
	find . -path ./$(VENV) -prune -o -path ./runs -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -prune -exec rm -rf {} +
	@echo "Kept: $(VENV), runs/ and the stage cache (\$$USERLLM_CACHE or ~/.cache/userllm); remove them by hand when you mean it."
