# `make` lists the chores. Everything is installed into .venv/ in this directory, nothing elsewhere.

PY := .venv/bin/python
STAMP := .venv/.installed
COMPILE = $(PY) -m piptools compile --quiet --generate-hashes --allow-unsafe --no-strip-extras \
	--no-header --no-annotate --no-emit-options --no-emit-index-url --no-emit-trusted-host \
	--no-emit-find-links
PYTHONS := python3.14 python3.13 python3.12 python3.11 python3 python
PIP_INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo run test cover lint bench matrix chaos lock docs words clean

help: ## list the chores
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r name does; do \
		printf '  %-12s %s\n' "$$name" "$$does"; done

setup: $(STAMP) ## install everything, and make the key that signs links
	@$(PY) -m digest.settings

demo: $(STAMP) ## try it: one run with sample subscribers, then a page (ONCE=1: without the page)
	@env $$(env | sed -n 's/^\(DIGEST_[A-Za-z0-9_]*\)=.*/-u \1/p') .venv/bin/digest demo $(if $(ONCE),--once)

run: $(STAMP) ## run the service with your settings, until stopped
	@exec $(PY) scheduler.py

# More than half of a test's time it waits for others, so four run on two cores (TESTERS=2: two).
test: lint ## check everything: style, types, tests
	$(PY) -m pytest -q --numprocesses $(or $(TESTERS),$(shell $(PY) -c "import os; print(os.cpu_count() * 2)")) --dist worksteal

cover: $(STAMP) ## run the tests and tell what they cover
	$(PY) -m pytest -q --cov

lint: $(STAMP) ## check style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: $(STAMP) ## measure, against a baseline in the same run (CHECK=1: fail where it is slow)
	@$(PY) -m benchmarks

matrix: $(STAMP) ## draw every page and mail in every way into build/matrix (TAG=de: one language)
	@$(PY) -m tests.matrix $(TAG)

chaos: $(STAMP) ## kill senders N times and judge what arrived (N=20, SEED= repeats the choices)
	@$(PY) -m tests.chaos --kills $(or $(N),20) $(if $(SEED),--seed $(SEED))

lock: $(STAMP) ## write both requirements files anew, with the newest versions
	@$(PY) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb")); \
	print(*p["project"]["dependencies"], *p["project"]["optional-dependencies"]["postgres"], \
	*p["dependency-groups"]["dev"], sep="\n")' > .venv/requirements.in
	@rm -f .venv/requirements.txt
	$(COMPILE) --output-file .venv/requirements.txt .venv/requirements.in
	@{ echo '# Exact versions with hashes, for Python 3.11 to 3.14; `make setup` installs these.'; \
	echo '# Written by `make lock` from pyproject.toml.'; \
	grep '^[a-z ]' .venv/requirements.txt; } > requirements.lock
	@$(MAKE) --no-print-directory requirements-service.lock

# What runs the service, of the same versions: nothing that only tests and measures.
requirements-service.lock: requirements.lock
	@$(PY) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb")); \
	print(*p["project"]["dependencies"], *p["project"]["optional-dependencies"]["postgres"], \
	sep="\n")' > .venv/service.in
	@rm -f .venv/service.txt
	$(COMPILE) --constraint requirements.lock --output-file .venv/service.txt .venv/service.in
	@{ echo '# The part of requirements.lock that a running service needs; the Dockerfile installs it.'; \
	echo '# Written by `make lock` from pyproject.toml.'; \
	grep '^[a-z ]' .venv/service.txt; } > $@

docs: $(STAMP) ## write docs/settings.md from the settings' descriptions
	@$(PY) -c 'from digest.settings import reference; print(reference(), end="")' > docs/settings.md

# Without line numbers, which every change of a template would move in every catalogue.
words: $(STAMP) ## bring the words of every language up to the templates and the code
	@$(PY) -m babel.messages.frontend --quiet extract --mapping-file=digest/locales/babel.cfg \
		--add-location=file --add-comments=TRANSLATORS: --strip-comments \
		--output-file=.venv/words.pot .
	@$(PY) -m babel.messages.frontend --quiet update --domain=digest \
		--output-dir=digest/locales --input-file=.venv/words.pot \
		--ignore-obsolete --ignore-pot-creation-date

clean: ## remove what was installed and built; data in var/ stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis htmlcov dist build

# A Python that is new enough but lacks venv (Debian and Ubuntu split it off) is named as such.
$(STAMP): requirements.lock pyproject.toml
	@if ! $(PY) -c 'import pip' 2>/dev/null; then \
		found=; near=; \
		for name in $(PYTHONS); do \
			"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
			near=$${near:-$$name}; \
			if "$$name" -c 'import ensurepip, venv' >/dev/null 2>&1; then found=$$name; break; fi; \
		done; \
		if [ -z "$$near" ]; then \
			echo 'Python 3.11 or newer is missing: install it (Debian 12, Ubuntu 24.04: sudo apt install python3-venv; Fedora: sudo dnf install python3.13; macOS: brew install python@3.13).' >&2; exit 1; \
		elif [ -z "$$found" ]; then \
			echo "$$near lacks venv: install it (Debian, Ubuntu: sudo apt install $$("$$near" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])'))." >&2; exit 1; \
		fi; \
		echo "Installing into .venv with $$found ..."; \
		"$$found" -m venv --clear .venv; \
	fi
	@$(PIP_INSTALL) --require-hashes --requirement requirements.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@
