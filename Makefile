# Each target sets up what it needs: a virtual environment in .venv, and in it Pipenv and the locked packages.

PYTHON ?= python3
PIPENV_VERSION := 2026.10.3

BIN := .venv/bin
# Pipenv uses this environment whichever one is active.
PIPENV := env VIRTUAL_ENV="$(CURDIR)/.venv" PIPENV_VERBOSITY=-1 PIPENV_IGNORE_VIRTUALENVS=0 $(BIN)/pipenv
READY := .venv/.packages-are-those-of-the-lock
# Of `make serve`, one for each port.
PID := .venv/serve-$(or $(PORT),9696).pid
# What is installed in .venv, and named in docs/environments/requirements-dev.txt.
CATEGORIES := packages dev-packages score notebook

.PHONY: help serve reload rollback train smoke test fuzz check bench reliability audit licences lock image run-image notebook mutants environments requirements clean

help: ## what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1	\2/'

serve: $(READY) ## the service on 127.0.0.1:9696, or on all addresses at PORT
	@$(BIN)/gunicorn --pid $(PID) predict:app

reload: ## have `make serve` take over a new model_C=1.0.bin, on PORT where it was started so
	@kill -HUP "$$(cat $(PID) 2>/dev/null)" 2>/dev/null || { echo 'No `make serve` is running.' >&2; exit 1; }

MODEL := model_C=1.0.bin
rollback: ## put back the model file that `make train` replaced, and have `make serve` take it over
	@test -e "$(MODEL).previous" || { echo 'There is no $(MODEL).previous: nothing was replaced.' >&2; exit 1; }
	@ln -f "$(MODEL)" "$(MODEL).rolled-back" && mv "$(MODEL).previous" "$(MODEL)" && mv "$(MODEL).rolled-back" "$(MODEL).previous"
	@$(MAKE) --no-print-directory reload

test: $(READY) ## all tests
	@$(BIN)/python -m pytest

fuzz: $(READY) ## five minutes of requests made up from the description of the API, to the running service
	@PYTHONPATH=.:tests SCHEMATHESIS_HOOKS=fuzz_tables $(BIN)/st run --max-time 300 http://127.0.0.1:9696/openapi.json

train: $(READY) ## train model_C=1.0.bin anew
	@$(BIN)/python train.py

smoke: $(READY) ## ask the running service about one customer
	@$(BIN)/python predict-test.py

check: $(READY) ## lint, format, types, tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest

bench: $(READY) ## measure the service against others: bench/RESULTS.md, TREES.md and SCORE.md
	@$(PIPENV) sync --categories "bench granian"
	@PYTHONPATH=. $(BIN)/python bench/run.py
	@PYTHONPATH=. $(BIN)/python bench/trees.py
	@PYTHONPATH=. $(BIN)/python bench/score.py

reliability: $(READY) ## a quarter of an hour of trouble for the service: tests/reliability/RESULTS.md
	@PYTHONPATH=.:tests $(BIN)/python tests/reliability/run.py

mutants: $(READY) ## small faults of the code, and whether the tests notice: tests/MUTANTS.md, or of MODULE=serving/fields.py
	@PYTHONPATH=. $(BIN)/python tests/mutants/run.py --seeds "$(or $(SEEDS),1)" --module "$(MODULE)"

environments: $(READY) ## docs/environments.md typed with venv, uv and Poetry: tests/environments/RESULTS.md
	@PYTHONPATH=.:tests $(BIN)/python tests/environments/run.py

# pip-audit says ERROR where it could not ask, and ends with the same status as where it found something;
# without --strict a package that the index knows nothing of would pass.
audit: $(READY) ## known vulnerabilities of the locked packages, where an index tells them
	@test -x .venv/audit/bin/pip-audit || { $(BIN)/python -m venv .venv/audit && \
		.venv/audit/bin/pip install --quiet --disable-pip-version-check pip-audit; }
	@$(PIPENV) requirements --hash > .venv/audit/requirements.txt
	@.venv/audit/bin/pip-audit --strict --disable-pip --progress-spinner off --requirement .venv/audit/requirements.txt \
		2> .venv/audit/log && cat .venv/audit/log || { status=$$?; \
		! grep -q '^ERROR' .venv/audit/log || echo 'Not audited: the index does not tell the vulnerabilities of every package.' >&2; \
		tail -n 3 .venv/audit/log >&2; exit $$status; }

licences: $(READY) ## the licences of the locked packages: docs/LICENCES.md
	@$(BIN)/python docs/licences.py

requirements: $(BIN)/pipenv ## the locked packages for other managers: docs/environments/requirements.txt and -dev.txt
	@$(PIPENV) requirements --hash --exclude-index > docs/environments/requirements.txt
	@$(PIPENV) requirements --hash --exclude-index --categories "$(CATEGORIES)" > docs/environments/requirements-dev.txt

# Without an index in Pipfile the lock's hash covers pip's index settings too: lock without any,
# and leave out the default index that Pipenv then writes down.
lock: $(BIN)/pipenv ## lock the newest versions that Pipfile allows
	@PIP_CONFIG_FILE=/dev/null $(PIPENV) lock
	@$(BIN)/python -c 'import json; \
		lock = json.load(open("Pipfile.lock")); \
		lock["_meta"]["sources"] = []; \
		open("Pipfile.lock", "w").write(json.dumps(lock, indent=4, sort_keys=True) + "\n")'

image: ## the Docker image churn-serving
	docker build --tag churn-serving .

run-image: image ## the service in a container, with nothing that it does not need
	docker run --rm --publish 9696:9696 --env SERVING_API_KEYS --env SERVING_REQUIRE_KEY \
		--read-only --volume /tmp --cap-drop ALL --security-opt no-new-privileges churn-serving

# Without the times at which its cells ran, so that the same numbers give the same file.
notebook: $(READY) ## run docs/notebook.ipynb from top to bottom, and save it with its outputs
	@$(BIN)/jupyter nbconvert --log-level WARN --to notebook --execute --inplace docs/notebook.ipynb \
		--ExecutePreprocessor.record_timing=False --KernelManager.transport_encryption=auto

clean: ## remove the virtual environment and the caches
	rm -rf .venv .mutants .mypy_cache .pytest_cache .ruff_cache .hypothesis .schemathesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/pipenv:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed, and this is " \
		+ sys.version.split()[0] + "; name another one with: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo 'On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@echo 'Installing Pipenv in .venv ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check pipenv==$(PIPENV_VERSION)

$(READY): Pipfile.lock $(BIN)/pipenv
	@echo 'Installing the locked packages in .venv ...'
	@$(PIPENV) sync --categories "$(CATEGORIES)"
	@touch $@
