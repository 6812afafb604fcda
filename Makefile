# Needs python3 >= 3.11 with its venv module, and make; everything else goes into $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Exported, so that quotes in the settings reach the launcher as they were typed.
export RUN_CONFIG

.DEFAULT_GOAL := help
.PHONY: help venv run deploy-demo docker-demo smoke test test-unit faults lint types audit docs bench clean

help: ## print these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  settings of a run: make run RUN_CONFIG='algorithm=\"fedavg\" num-clients=20'"

venv: $(STAMP) ## install the project and its development tools into VENV (.venv)

$(STAMP): pyproject.toml
	test -x "$(BIN)/python" || "$(PYTHON)" -m venv "$(VENV)"
	"$(BIN)/python" -m pip install -e ".[dev]"
	touch "$(STAMP)"

run: $(STAMP) ## simulate the app, and say what clustering gained; settings in RUN_CONFIG
	"$(BIN)/feddag-flwr" run . --run-config compare=true $(if $(RUN_CONFIG),--run-config "$$RUN_CONFIG")

deploy-demo: $(STAMP) ## a real federation as local processes: TLS, keys, four nodes; options in DEMO
	"$(BIN)/feddag-lab" deploy-demo . $(DEMO)

smoke: $(STAMP) ## run every algorithm on every scenario, small, and make tables; goes on where it stopped
	@status=0; \
	"$(BIN)/feddag-lab" experiment run smoke --output results/smoke || status=1; \
	"$(BIN)/feddag-lab" experiment report results/smoke || status=1; \
	exit $$status

docker-demo: ## run a federation in containers, kill a node and the SuperLink; status 77: no engine
	"$(PYTHON)" -m feddag_lab.docker_demo

test: $(STAMP) ## run the unit tests and whole runs, then the tests through the real Flower
	@status=0; \
	"$(BIN)/python" -m pytest -n auto --dist worksteal -m "not e2e" || status=1; \
	"$(BIN)/python" -m pytest -m "e2e and not faults" || status=1; \
	exit $$status

test-unit: $(STAMP) ## run the unit tests alone, on all cores
	"$(BIN)/python" -m pytest -n auto --dist worksteal -m "not e2e and not integration"

faults: $(STAMP) ## harm real processes in every way of docs/faults.md (root for two of them); not part of test
	"$(BIN)/python" -m pytest -m faults

lint: $(STAMP) ## check style and format
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .

types: $(STAMP) ## check the types
	"$(BIN)/mypy"

audit: $(STAMP) ## look up known weaknesses of all that is installed (needs the advisories of PyPI)
	"$(BIN)/pip" install --quiet pip-audit
	"$(BIN)/pip-audit" --local --skip-editable

docs: $(STAMP) ## build the documentation as a site, in site/
	"$(BIN)/mkdocs" build --strict

bench: $(STAMP) ## run every script in benchmarks/, one after the other
	@for script in benchmarks/*.py; do \
		test -e "$$script" || continue; \
		echo "== $$script"; \
		"$(BIN)/python" "$$script" || exit 1; \
	done

clean: ## remove .venv and what the tools leave behind
	rm -rf .venv build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
