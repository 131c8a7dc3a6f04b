# Every target makes the virtual environment that it needs. `make demo` installs no torch.
PYTHON ?= python3
# Without --no-compile pip compiles every module of torch and its like; this way only what is imported is compiled.
PIP_FLAGS := --quiet --disable-pip-version-check --no-compile
BIN := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
.DEFAULT_GOAL := help
.PHONY: help demo notebook test test-slow coverage fuzz fuzz-encoder fuzz-json lint format bench models models-multilingual wheel-check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv-demo/ready ## the example pipelines in LangChain and LlamaIndex
	.venv-demo/$(BIN)/python examples/rag_langchain.py
	.venv-demo/$(BIN)/python examples/rag_llama_index.py

notebook: .venv-notebook/ready ## the example notebook, in JupyterLab
	.venv-notebook/$(BIN)/jupyter lab notebooks/rag_reranking.ipynb

# One process a core: on two cores 0.67 of the time of one process.
test: .venv/ready ## the fast tests, one process a core
	.venv/$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal

test-slow: .venv/ready ## the slow tests
	.venv/$(BIN)/python -m pytest -m "slow and not hub and not gpu"

coverage: .venv/ready ## the fast tests, with the branch coverage of src/ and its floor
	.venv/$(BIN)/python -m pytest --cov

lint: .venv/ready ## ruff, mypy --strict, import-linter
	.venv/$(BIN)/ruff check .
	.venv/$(BIN)/ruff format --check .
	.venv/$(BIN)/mypy
	.venv/$(BIN)/lint-imports

format: .venv/ready ## what ruff can fix
	.venv/$(BIN)/ruff check --fix .
	.venv/$(BIN)/ruff format .

# Coverage-guided, over arbitrary bytes. A crash is saved in build/fuzz. With -j2 both run at the same time.
FUZZ_SECONDS ?= 60
fuzz: fuzz-encoder fuzz-json ## the pair encoder and the JSON lines reader, FUZZ_SECONDS=60 each
fuzz-encoder: .venv/fuzz-ready
	.venv/$(BIN)/python tests/fuzz/fuzz_pair_encoder.py -max_total_time=$(FUZZ_SECONDS)
fuzz-json: .venv/fuzz-ready
	.venv/$(BIN)/python tests/fuzz/fuzz_json_lines.py -max_total_time=$(FUZZ_SECONDS)

wheel-check: ## build sdist and wheel, install the wheel alone, run its demo in another directory
	rm -rf dist build/wheel-venv && mkdir -p build
	$(PYTHON) -m venv build/wheel-venv
	build/wheel-venv/$(BIN)/python -m pip install $(PIP_FLAGS) --upgrade pip build
	build/wheel-venv/$(BIN)/python -m build --outdir dist . >build/wheel.log
	build/wheel-venv/$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt "$$(ls dist/*.whl)[faiss,highlight]"
	cd build && wheel-venv/$(BIN)/rerank-plugins demo

# The shapes of v2-m3 need make_standin.py (peers.py --standins): make bench SHAPES="mini standin-6 standin-24"
SHAPES ?= mini
bench: .venv-bench/ready ## speed beside other libraries, SHAPES=mini
	mkdir -p build
	.venv-bench/$(BIN)/python benchmarks/peers.py $(SHAPES:%=--shape %) --json build/peers.json --plot build/peers.png
	.venv-bench/$(BIN)/python benchmarks/adapters.py
	.venv-bench/$(BIN)/python benchmarks/growth.py --plot build/growth.png

DATA ?= ../shared/data
models: .venv-train/ready ## train the bundled English models on the collections in DATA, see training/README.md
	.venv-train/$(BIN)/python training/make_models.py --data $(DATA)

TOKENIZER ?= $(DATA)/../models/xlm-roberta-tokenizer
models-multilingual: .venv-train/ready ## the same for the models of Chinese and English
	PYTHONPATH=training .venv-train/$(BIN)/python training/multilingual/make_models.py --data $(DATA) --tokenizer $(TOKENIZER)

clean: ## remove the environments, builds and caches
	rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage

.venv/ready: INSTALL := -e '.[all]' --group test --group lint
.venv-demo/ready: INSTALL := -e '.[faiss,highlight,langchain,llama-index]' --group demo
.venv-notebook/ready: INSTALL := -e '.[eval,highlight,langchain,llama-index]' --group notebook
.venv-bench/ready: INSTALL := -e '.[all]' -r benchmarks/requirements-peers.txt
.venv-train/ready: INSTALL := -e '.[train]' --group models

.venv-bench/ready: benchmarks/requirements-peers.txt
.venv/ready .venv-demo/ready .venv-notebook/ready .venv-bench/ready .venv-train/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/$(BIN)/python -m pip install $(PIP_FLAGS) --upgrade pip
	$(@D)/$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt $(INSTALL)
	touch $@

# Not in the group "test": atheris has wheels for Linux only.
.venv/fuzz-ready: .venv/ready
	.venv/$(BIN)/python -m pip install $(PIP_FLAGS) --group fuzz
	touch $@
