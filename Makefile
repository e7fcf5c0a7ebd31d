# Everything below runs in .venv, which is made from python3 alone.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: env demo docs test lint audit clean

env: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: env
	rm -rf runs/demo
	$(BIN)/ifam demo --out runs/demo

docs: env
	$(BIN)/python scripts/draw_docs.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo build/site/index.html

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A process for each core, each with one thread: the tests are many and small.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile --cov --cov-report=term:skip-covered --cov-fail-under=85

# Strict: a package that the database does not know is an error, where pip-audit would say that nothing was found.
audit:
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet pip-audit
	build/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

clean:
	rm -rf .venv build dist .coverage .mypy_cache .pytest_cache .ruff_cache
