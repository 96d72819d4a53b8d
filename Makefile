# Every target sets up what it needs first; from the second time on that takes no time.
# Unattended: YES=1 (or CI=true) installs Debian packages without asking.

BIN := .venv/bin
export YES CI KEEP

.DEFAULT_GOAL := help
.PHONY: help setup demo dev lint test

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install Debian packages (asks first) and .venv
	@deploy/local/packages.sh
	@deploy/local/venv.sh

demo: setup ## Real data from a sensor's batch to an operator's alert; KEEP=1 leaves it running
	@$(BIN)/headwater demo $(if $(filter 1,$(KEEP)),--keep)

dev: setup ## Start the local database and Redis and bring the schema up to date
	@$(BIN)/headwater dev up
	@$(BIN)/headwater migrate

lint: setup ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint ## Style, types and every test, on real servers
	@deploy/local/packages.sh test || echo "headwater: tests that need the missing programs are skipped"
	$(BIN)/pytest -n 3 --dist loadfile
