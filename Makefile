VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin

.PHONY: train test lint clean

train: $(BIN)/.installed shards/sample/train/manifest.json
	$(BIN)/accelerate launch --quiet launch/train.py --config configs/sample.yaml \
		--run_name sample-$$(date +%Y%m%d-%H%M%S)

test: $(BIN)/.installed-test
	$(BIN)/pytest

lint: $(BIN)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build *.egg-info

shards/sample/train/manifest.json: | $(BIN)/.installed
	$(BIN)/python launch/pack.py --source sample

$(BIN)/.installed: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e .
	touch $@

$(BIN)/.installed-test: $(BIN)/.installed
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt -e '.[test]'
	touch $@
