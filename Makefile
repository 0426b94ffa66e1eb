# CI runs these targets and has no others of its own. All tools are installed in .venv; `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= python3
BIN := .venv/bin
RUNNABLE := .venv/.runnable
READY := .venv/.ready
AUDIT := .venv/audit/bin
# The processes that share the tests. They wait for servers part of the time, so there is one more than the usual two cores.
WORKERS ?= 3
# How many operations `make test-convergence` runs.
OPERATIONS ?= 10000
# In the order of tests/conftest.py.
PYTEST := $(BIN)/pytest --numprocesses $(WORKERS) --dist loadgroup --no-loadscope-reorder

.PHONY: help run quick test check coverage test-issuer test-browser test-citus test-schema test-generators test-example \
	test-convergence test-faults client bench lint format types audit sbom notices openapi docs lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(RUNNABLE) ## Migrate, add example tasks, serve on http://127.0.0.1:8000 and print a request to paste
	@exec $(BIN)/todo dev

quick: $(READY) ## Run the tests that start no servers and take less than a second each
	$(PYTEST) -m "not process and not slow" $(ARGS)

test: $(READY) ## Run all tests except those with a target of their own
	$(PYTEST) $(ARGS)

coverage: $(READY) ## Run the same tests, and fail below 100 % branch coverage
	$(PYTEST) --hypothesis-profile=thorough --cov --cov-report=term-missing:skip-covered $(ARGS)

check: lint types coverage ## Run everything that a change has to pass: lint, types, and tests with coverage

test-issuer: $(READY) tests/issuer/node_modules tests/assistant_clients/node_modules ## Test Better Auth and assistants (needs Node 20)
	ISSUER=better-auth $(PYTEST) tests/issuer tests/assistant_clients

test-browser: $(READY) clients/typescript/node_modules ## Test the pages in a browser (needs Chromium and Node 20)
	$(BIN)/pytest tests/browser

test-faults: $(READY) .venv/otel/.ready ## Test poolers, Redis, broken networks and OpenTelemetry, and soak for SOAK_S seconds (needs root, pgbouncer, redis-server and iproute2)
	$(PYTEST) tests/faults

# One process, because all tests share one database.
test-citus: $(READY) ## Test on a Citus cluster that you have started (CITUS_URL, see docs/develop/tests.md)
	@test -n "$(CITUS_URL)" || { echo "CITUS_URL is not set: see docs/develop/tests.md."; exit 2; }
	CITUS_URL=$(CITUS_URL) $(BIN)/pytest -m "not plain" $(CITUS_TESTS) $(ARGS)

CITUS_TESTS := tests/citus $(addprefix tests/,batch calendar events importing tasks trash users) \
	$(addprefix tests/wire/test_,calls.py clients.py events.py imports.py revisions.py)

test-schema: $(READY) ## Compare the running service with openapi.json; ARGS="--seed 2 --max-examples 500" searches further
	ARGS='$(ARGS)' $(BIN)/pytest tests/schema --capture=no

test-generators: $(READY) .venv/generators/.ready tests/generators/node_modules ## Generate clients from openapi.json, check their types and run them (needs Node 20)
	$(BIN)/pytest tests/generators $(ARGS)

client: $(READY) clients/typescript/dist/index.js ## Check and test the TypeScript client, also against a real server (needs Node 20)
	@cd clients/typescript && npm run --silent lint && npm run --silent types && npm test --silent
	cd clients/typescript && npm run --silent demo -- --check
	$(BIN)/pytest tests/clients $(ARGS)

test-example: $(READY) examples/next-better-auth/node_modules ## Check, build and test the example application in a browser (needs Chromium and Node 20)
	@cd examples/next-better-auth && NEXT_TELEMETRY_DISABLED=1 BETTER_AUTH_URL=http://127.0.0.1:3000 \
		BETTER_AUTH_SECRET=not-a-secret-as-nothing-is-served-yet npm run --silent build
	$(BIN)/pytest tests/example $(ARGS)

test-convergence: $(READY) clients/typescript/dist/index.js ## Let devices and an assistant edit one list while everything breaks; ARGS="--seed 2" (needs Node 20)
	$(BIN)/pytest tests/convergence --operations $(OPERATIONS) $(ARGS)

bench: $(READY) ## Measure beside comparable services; ARGS=--quick measures briefly (needs Node 20 and wrk)
	$(BIN)/python -m benchmarks.compare $(ARGS)

lint: $(READY) ## Check the code and its format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(READY) ## Fix the format and what else can be fixed automatically
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(READY) ## Check the types
	$(BIN)/mypy

audit: $(AUDIT)/.ready ## Search the code for insecure patterns and the dependencies for published vulnerabilities (needs the Internet)
	$(AUDIT)/bandit --quiet --recursive todo boot.py config.py granian.conf.py gunicorn.conf.py wsgi.py migrations
	$(AUDIT)/python .ci/advisories.py $(ARGS)

sbom: $(AUDIT)/.ready $(READY) ## Write what an image holds to sbom.json, as CycloneDX
	$(AUDIT)/python -W ignore -m cyclonedx_py requirements requirements.txt --pyproject pyproject.toml \
		--output-reproducible --output-file sbom.json
	$(BIN)/python .ci/notices.py sbom.json

notices: $(READY) ## Write the licences of what an image holds to NOTICES.md
	$(BIN)/python .ci/notices.py

openapi: $(READY) ## Write openapi.json from the code
	$(BIN)/flask openapi write openapi.json

docs: .venv/docs/.ready ## Build the documentation into site/, and check every link
	.venv/docs/bin/zensical build --clean --strict
	.venv/docs/bin/python .ci/pages.py site

.venv/docs/.ready: requirements-docs.txt
	@$(call install,.venv/docs,requirements-docs.txt)
	@touch $@

lock: $(READY) ## Pin the newest versions of everything in requirements*.in
	$(BIN)/pip-compile $(LOCK) requirements.in
	$(BIN)/pip-compile $(LOCK) --no-annotate --generate-hashes --output-file requirements-image.txt requirements.txt
	$(BIN)/pip-compile $(LOCK) requirements-run.in
	$(BIN)/pip-compile $(LOCK) requirements-dev.in
	$(BIN)/pip-compile $(LOCK) requirements-audit.in
	$(BIN)/pip-compile $(LOCK) requirements-granian.in
	$(BIN)/pip-compile $(LOCK) requirements-otel.in
	$(BIN)/pip-compile $(LOCK) requirements-docs.in
	$(BIN)/pip-compile $(LOCK) requirements-generators.in

LOCK := --quiet --upgrade --strip-extras --annotation-style=line --no-header \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links

clean: ## Remove .venv, the development database, the built documentation and installed Node packages
	rm -rf .venv instance site .cache tests/*/node_modules clients/*/node_modules clients/*/dist \
		examples/*/node_modules examples/*/.next benchmarks/peers/fastify/node_modules

%/node_modules: %/package-lock.json
	@node -e 'if (parseInt(process.versions.node) < 20) throw "Node 20 or newer is needed."'
	@echo "Installing the Node packages of $* (once) ..."
	@npm ci --prefix $* --ignore-scripts --no-audit --no-fund --silent
	@touch $@

clients/typescript/dist/index.js: clients/typescript/node_modules openapi.json $(filter-out %/openapi.ts,$(wildcard clients/typescript/src/*.ts))
	@npm run --silent --prefix clients/typescript build

# It has a copy of the built client, as from a registry.
examples/next-better-auth/node_modules: clients/typescript/dist/index.js

# Creates the environment $(1), unless it exists, and installs the requirement files $(2) there: with uv where it is
# installed, else with pip.
install = if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --no-python-downloads --python "$$(command -v $(PYTHON))" $(1) \
		&& uv pip install --quiet --python $(1)/bin/python $(addprefix --requirement ,$(2)); \
	else \
		{ test -x $(1)/bin/pip || $(PYTHON) -m venv $(1); } \
		&& $(1)/bin/pip install --quiet --disable-pip-version-check $(addprefix --requirement ,$(2)); \
	fi

# What `make run` needs is a third of what the tests need.
$(RUNNABLE): requirements-run.txt deploy/install.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.13")'
	@echo "Installing the service into .venv (once) ..."
	@$(call install,.venv,requirements-run.txt)
	@$(BIN)/python deploy/install.py
	@touch $@

$(READY): requirements-dev.txt $(RUNNABLE)
	@echo "Installing the tools of development into .venv (once) ..."
	@$(call install,.venv,requirements-dev.txt)
	@touch $@

$(AUDIT)/.ready: requirements-audit.txt
	@$(call install,.venv/audit,requirements-audit.txt)
	@touch $@

.venv/otel/.ready: requirements.txt requirements-otel.txt
	@$(call install,.venv/otel,requirements.txt requirements-otel.txt)
	@touch $@

.venv/generators/.ready: requirements-generators.txt
	@$(call install,.venv/generators,requirements-generators.txt)
	@touch $@
