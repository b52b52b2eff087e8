# One way in: `make` lists what there is.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-slow bench cluster cluster-down browser format clean

help:
	@echo "make demo       install, then run the whole job on stand-in scans; prints what to open"
	@echo "make test       install, then check style, types, layers and behaviour"
	@echo "make test-slow  the proofs that take minutes"
	@echo "make bench      every benchmark, as a table and as benchmarks/results/*.json"
	@echo "make cluster    the services of docker-compose.yml as processes of this machine; make cluster-down stops them"
	@echo "make format     put the code into shape"
	@echo "make clean      remove what make made"

demo: $(VENV)/user
	$(BIN)/halosign demo

test: $(VENV)/dev $(VENV)/postgresql browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -m "not slow"

test-slow: $(VENV)/dev $(VENV)/postgresql browser
	$(BIN)/pytest -m slow

bench: $(VENV)/bench browser
	$(BIN)/python -m benchmarks

cluster: $(VENV)/dev $(VENV)/postgresql .env
	$(BIN)/python -m tests.cluster.local_cluster up

cluster-down: $(VENV)/dev
	$(BIN)/python -m tests.cluster.local_cluster down

# Every secret that .env.example leaves empty, made up anew
.env:
	umask 077; $(PYTHON) -c "import re, secrets; print(re.sub('=$$', lambda _: '=' + secrets.token_hex(16), open('.env.example').read(), flags=re.M), end='')" > $@

# The review page is tested in a real browser; where there is none and none can be had, those tests are skipped.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } >/dev/null \
			|| echo "chromium could not be installed: browser tests will be skipped"; \
		else echo "no chromium here: install it as root, or the browser tests are skipped"; fi

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) *.egg-info halosign-demo

$(VENV)/user: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/dev: $(VENV)/user
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/bench: $(VENV)/user
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

$(VENV)/postgresql: $(VENV)/user
	@command -v initdb || ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null \
		|| (apt-get update -qq && apt-get install -qqy --no-install-recommends postgresql) \
		|| echo "PostgreSQL cannot be installed here: what needs it is skipped and says so"
	@touch $@
