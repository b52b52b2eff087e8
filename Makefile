# `make` lists the targets.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Processes of `make test`
TEST_WORKERS ?= 2

.PHONY: help demo test test-slow compose-test slurm-test mutants bench cluster cluster-down browser docs format clean

help:
	@echo "make demo       install, then run the whole pipeline on synthetic scans"
	@echo "make test       install, then check style, types and imports, and run the tests"
	@echo "make test-slow  the tests that take minutes"
	@echo "make compose-test  docker-compose.yml in containers; as root on Debian 12 it installs an engine if there is none"
	@echo "make slurm-test    the SLURM example of docs/cluster.md on one node; as root on Debian it installs SLURM"
	@echo "make mutants    60 one-line mutants, each against the tests that reach its module; resumes"
	@echo "make bench      all benchmarks, as a table and as benchmarks/results/*.json"
	@echo "make cluster    start the services of docker-compose.yml as local processes; make cluster-down stops them"
	@echo "make docs       build the documentation as a site: build/docs/index.html"
	@echo "make format     format the code"
	@echo "make clean      remove everything that make created"

demo: $(VENV)/user
	$(BIN)/halosign demo

test: $(VENV)/dev $(VENV)/postgresql browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@echo "$(BIN)/mypy, while the kernels are compiled that every process of the tests would compile"
	@$(BIN)/python -m matting.compile & $(BIN)/mypy; status=$$?; wait; exit $$status
	$(BIN)/lint-imports
	$(BIN)/pytest -m "not slow" -n $(TEST_WORKERS)

test-slow: $(VENV)/dev $(VENV)/postgresql browser
	$(BIN)/pytest -m "slow and not engine"

compose-test: $(VENV)/dev
	$(BIN)/pytest -s -v tests/cluster/test_containers.py

slurm-test: $(VENV)/dev
	$(BIN)/pytest -s -v tests/cluster/test_slurm.py

mutants: $(VENV)/dev
	$(BIN)/python -m benchmarks.mutants

bench: $(VENV)/bench $(VENV)/audit browser
	$(BIN)/python -m benchmarks

cluster: $(VENV)/dev $(VENV)/postgresql .env
	$(BIN)/python -m tests.cluster.local_cluster up

cluster-down: $(VENV)/dev
	$(BIN)/python -m tests.cluster.local_cluster down

# A random value for every secret that .env.example leaves empty
.env:
	umask 077; $(PYTHON) -c "import re, secrets; print(re.sub('=$$', lambda _: '=' + secrets.token_hex(16), open('.env.example').read(), flags=re.M), end='')" > $@

# The review page is tested in a real browser; without one, those tests are skipped.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } >/dev/null \
			|| echo "cannot install chromium: the browser tests are skipped"; \
		else echo "chromium is not installed: install it as root, or the browser tests are skipped"; fi

docs: $(VENV)/docs
	$(BIN)/sphinx-build -W --keep-going -q docs build/docs
	@echo "build/docs/index.html"

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) *.egg-info build halosign-demo

# As a folder on the path: by setuptools' default, Python takes a folder `halosign`, such as the clone, for the package
# where it is started beside it.
EDITABLE := --config-settings editable_mode=compat -e

# uv installs in half a minute what takes pip three; it does not read pip's settings. pip where uv cannot be had.
define install
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv \
		&& UV_FIND_LINKS="$$PIP_FIND_LINKS" $(BIN)/uv pip install --compile-bytecode --python $(BIN)/python -c constraints.txt $(1) \
		|| $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $(1)
	@touch $@
endef

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/user $(VENV)/dev $(VENV)/docs $(VENV)/bench: pyproject.toml constraints.txt | $(BIN)/python

$(VENV)/user:
	$(call install,$(EDITABLE) .)

$(VENV)/dev:
	$(call install,$(EDITABLE) '.[dev]')

$(VENV)/docs:
	$(call install,$(EDITABLE) '.[docs]')

$(VENV)/bench:
	$(call install,$(EDITABLE) '.[bench]')

# In an environment of its own, since it judges the packages of the other
$(VENV)/audit: | $(BIN)/python
	@$(PYTHON) -m venv $@ && $@/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1 \
		|| echo "cannot install pip-audit: advisories are not compared"

$(VENV)/postgresql: | $(BIN)/python
	@command -v initdb || ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null \
		|| (apt-get update -qq && apt-get install -qqy --no-install-recommends postgresql) \
		|| echo "cannot install PostgreSQL: the tests that need it are skipped"
	@touch $@
