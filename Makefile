# Everything runs in .venv, which is made from requirements.lock when it is missing or out of date.
# PYTHON names the Python to make it with; ARGS goes to pytest, as in: make test ARGS="-k rename"

PYTHON ?= python3
MINUTES ?= 30
NAMED := $(if $(filter-out file,$(origin PYTHON)),--with-this-python)
RUN := .venv/bin/python -m
RAG_ASSETS := $(RUN) rag_assets.cli
COMPILE := .venv/bin/uv pip compile pyproject.toml --extra dev --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock" \
	--output-file requirements.lock

unexport PYTHONHOME PYTHONPATH
.DEFAULT_GOAL := help
.PHONY: help venv demo up down test soak bench latency lint format docs dump lock upgrade wheel clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

venv: ## Make .venv, or bring it up to date
	@command -v "$(PYTHON)" >/dev/null || { echo "There is no $(PYTHON) here. Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -I tools/make_venv.py $(NAMED)

demo: venv ## From the sample documents to a cited answer
	@$(RAG_ASSETS) up --database-only
	@$(RAG_ASSETS) materialize handbook
	@$(RAG_ASSETS) ask --corpus handbook "How do I go back to the previous generation?"
	@echo
	@echo 'How to go on:'
	@echo '  make up     starts the Dagster UI and everything else, and prints the address'
	@echo '  make down   stops all of it'
	@echo '  .venv/bin/rag-assets ask --corpus handbook "What happens when a file is renamed?"'

up: venv ## Start the database, the Dagster UI and the daemon
	@$(RAG_ASSETS) up

down: venv ## Stop all that `make up` and `make demo` started
	@$(RAG_ASSETS) down

# Half of the time is spent waiting for other processes, so there are four workers on two cores, too.
test: venv ## Run all tests
	@$(RUN) pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

bench: venv ## Measure the indexing; SIZES="1000 50000", ROUNDS=3 or FOLDER=… say of what
	@$(RUN) benchmarks.indexing $(if $(SIZES),--sizes $(SIZES)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(FOLDER),--folder "$(FOLDER)") --dagster

latency: venv ## Measure a look at the source, and from touching a file until it is found
	@$(RUN) benchmarks.source_look
	@$(RUN) benchmarks.touch_to_searchable $(ARGS)

soak: venv ## Try random faults for MINUTES=30; SEED=… tries one again, as it was
	@$(RUN) rag_assets_tests.fault $(if $(SEED),--seed $(SEED),--minutes $(MINUTES))

lint: venv ## Check style, types and who imports whom
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) mypy
	@.venv/bin/lint-imports --no-logo

format: venv ## Put the code into the common form
	@$(RUN) ruff check --fix
	@$(RUN) ruff format

docs: venv ## Write the pages of docs/reference that follow from the code
	@.venv/bin/python tools/write_reference.py

dump: venv ## Keep this release's database as a fixture, for later releases to open
	@.venv/bin/python tools/dump_release.py

lock: venv ## Resolve pyproject.toml again, keeping the versions that still fit
	@$(COMPILE)

upgrade: venv ## Resolve pyproject.toml again, to the newest versions it allows
	@$(COMPILE) --upgrade

wheel: venv ## Build the wheel into dist/
	@.venv/bin/uv build --quiet --wheel --no-build-isolation --python .venv/bin/python
	@ls dist/*.whl

clean: ## Remove what was built; .venv and .rag_assets stay
	@rm -rf build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
