# What CI runs, and nothing CI-only. Everything happens in .venv: `make help` says what there is.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
AUDIT := .venv/audit/bin

.PHONY: help run test test-issuer test-browser test-schema test-faults bench lint format types check audit sbom openapi lock clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(READY) ## Migrate, seed and serve on http://127.0.0.1:8000, and print a call to paste
	@exec $(BIN)/todo dev

test: $(READY) ## Run all tests but those that have a command of their own
	$(BIN)/pytest --numprocesses 3 $(ARGS)

test-issuer: $(READY) tests/issuer/node_modules ## Run the tests of tokens against a real Better Auth, for which Node 20 must be installed
	ISSUER=better-auth $(BIN)/pytest tests/issuer --no-cov --numprocesses 3

test-browser: $(READY) ## Run the tests of the pages in Chromium, which must be installed
	$(BIN)/pytest tests/browser --no-cov

test-faults: $(READY) .venv/otel/.ready ## Run the tests of poolers, stores, broken networks and OpenTelemetry, as root: pgbouncer, redis-server and iproute2 must be there
	$(BIN)/pytest tests/faults --no-cov --numprocesses 3

test-schema: $(READY) ## Hold the running service against openapi.json; ARGS="--seed 2 --max-examples 500" looks further
	ARGS='$(ARGS)' $(BIN)/pytest tests/schema --no-cov --capture=no

bench: $(READY) ## Compare with what else there is, side by side; ARGS=--quick looks briefly. Needs Node 20 and wrk
	$(BIN)/python -m benchmarks.compare $(ARGS)

lint: $(READY) ## Look for mistakes and for what is out of style
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(READY) ## Mend what is out of style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(READY) ## Check the types
	$(BIN)/mypy

check: lint types test ## Lint, types and tests: what a change has to pass

audit: $(AUDIT)/.ready ## Look for doubtful lines in the code, and for published holes in what it runs on: asks the Internet
	$(AUDIT)/bandit --quiet --recursive todo config.py gunicorn.conf.py wsgi.py migrations
	$(AUDIT)/python .ci/advisories.py $(ARGS)

sbom: $(AUDIT)/.ready ## Write what an image holds of others to sbom.json, as CycloneDX
	$(AUDIT)/python -W ignore -m cyclonedx_py requirements requirements.txt --pyproject pyproject.toml \
		--output-reproducible --output-file sbom.json

openapi: $(READY) ## Write openapi.json from the code
	$(BIN)/flask openapi write openapi.json

lock: $(READY) ## Pin the newest versions of everything in requirements*.in
	$(BIN)/pip-compile $(LOCK) requirements.in
	$(BIN)/pip-compile $(LOCK) --no-annotate --generate-hashes --output-file requirements-image.txt requirements.txt
	$(BIN)/pip-compile $(LOCK) requirements-dev.in
	$(BIN)/pip-compile $(LOCK) requirements-audit.in
	$(BIN)/pip-compile $(LOCK) requirements-otel.in

LOCK := --quiet --upgrade --strip-extras --annotation-style=line --no-header \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links

clean: ## Remove .venv and the development database
	rm -rf .venv instance tests/issuer/node_modules benchmarks/peers/fastify/node_modules

tests/issuer/node_modules: tests/issuer/package-lock.json
	@node -e 'if (parseInt(process.versions.node) < 20) throw "Node 20 or newer is needed."'
	@echo "Installing Better Auth into tests/issuer/node_modules (once) ..."
	@npm ci --prefix tests/issuer --ignore-scripts --no-audit --no-fund --silent
	@touch $@

$(READY): requirements-dev.txt deploy/install.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.13")'
	@echo "Installing what is needed into .venv (once) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@$(BIN)/python deploy/install.py
	@touch $@

$(AUDIT)/.ready: requirements-audit.txt
	@$(PYTHON) -m venv .venv/audit
	@$(AUDIT)/pip install --quiet --disable-pip-version-check -r requirements-audit.txt
	@touch $@

.venv/otel/.ready: requirements.txt requirements-otel.txt
	@$(PYTHON) -m venv .venv/otel
	@.venv/otel/bin/pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-otel.txt
	@touch $@
