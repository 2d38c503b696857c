# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
USERS  := $(VENV)/.ready-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
JOBS   ?= 2

.PHONY: help demo test lint types contracts docstrings wheel conformance mcpb check bench load clean

help: ## show what can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: $(USERS) ## set everything up and watch the main job run on the embedded database
	@$(BIN)/memory-plugin demo

test: $(STAMP) ## run every test
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: $(STAMP) ## style, by ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## types, by mypy in strict mode
	$(BIN)/mypy

contracts: $(STAMP) ## which layer may import which
	$(BIN)/lint-imports

docstrings: $(STAMP) ## every public name says what it means
	$(BIN)/ruff check --select D100,D101,D102,D103,D104,D106 memory_plugin mcp_server

wheel: $(STAMP) ## build the wheel and try it in an empty environment
	$(BIN)/python tests/try_wheel.py

mcpb: $(STAMP) ## build dist/memory-mcp.mcpb, which desktop clients install by themselves
	@$(BIN)/python -m mcp_server.bundle

conformance: $(STAMP) ## check the MCP server by the protocol's own suite, the Inspector and LangChain's clients
	@$(BIN)/python -m tests.outside_tools

check: test lint types contracts docstrings wheel conformance ## all that CI checks

bench: $(STAMP) ## measure the checkpointer beside LangGraph's own; options in ARGS, as ARGS=--quick
	@$(BIN)/python -m benchmarks.checkpointer $(ARGS)

load: $(STAMP) ## let 64 agents of 1,000 tenants work at once; options in ARGS, as ARGS=--soak
	@$(BIN)/python -m benchmarks.load $(ARGS)

SECONDS ?= 60

fuzz: $(STAMP) ## look for input that breaks a reader, by coverage; SECONDS=60 for each of the targets, TARGET=codec for one
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt atheris
	$(BIN)/python -m tests.fuzz $(TARGET) --seconds $(SECONDS)

licences: $(STAMP) ## write docs/reference/licences.md from what is installed
	$(BIN)/python -m tests.supply_chain licences

sbom: $(STAMP) ## write what is pinned as CycloneDX JSON, to build/sbom.json
	@mkdir -p build
	$(BIN)/python -m tests.supply_chain sbom build/sbom.json

audit: $(VENV)/bin/python ## ask for known vulnerabilities of what is pinned; says so when no source answers
	@$(PYTHON) -m venv $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit packaging
	$(VENV)/audit/bin/python -m tests.supply_chain audit

clean: ## remove what was built, not the demo's database
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# what a user of the demo needs
$(USERS): pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Setting up $(VENV) (the first time only; about a minute) ..."
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e ".[embedded,documents,langchain]"
	@touch $@

# what a developer needs besides
$(STAMP): $(USERS)
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e ".[embedded,documents,langchain,dev]"
	@touch $@
