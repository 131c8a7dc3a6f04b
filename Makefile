# Every target makes the virtual environment it needs. `make demo` installs no torch.
PYTHON ?= python3
PIP_FLAGS := --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo notebook test test-slow fuzz lint format bench models wheel-check clean

demo: .venv-demo/ready
	.venv-demo/bin/python examples/rag_langchain.py
	.venv-demo/bin/python examples/rag_llama_index.py

notebook: .venv-notebook/ready
	.venv-notebook/bin/jupyter lab notebooks/rag_reranking.ipynb

test: .venv/ready
	.venv/bin/python -m pytest

test-slow: .venv/ready
	.venv/bin/python -m pytest -m "slow and not hub and not gpu"

# Guided by coverage, over arbitrary bytes; a crash is kept in build/fuzz.
FUZZ_SECONDS ?= 60
fuzz: .venv-fuzz/ready
	.venv-fuzz/bin/python tests/fuzz/fuzz_pair_encoder.py -max_total_time=$(FUZZ_SECONDS)
	.venv-fuzz/bin/python tests/fuzz/fuzz_json_lines.py -max_total_time=$(FUZZ_SECONDS)

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

format: .venv/ready
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

# The shapes of v2-m3 want the folder of make_standin.py: make bench SHAPES="mini standin-6 standin-24"
SHAPES ?= mini
bench: .venv-bench/ready
	mkdir -p build
	.venv-bench/bin/python benchmarks/peers.py $(SHAPES:%=--shape %) --json build/peers.json --plot build/peers.png
	.venv-bench/bin/python benchmarks/adapters.py
	.venv-bench/bin/python benchmarks/growth.py --plot build/growth.png

# The wheel, installed alone in an environment of its own, runs the demo from another directory.
wheel-check:
	rm -rf dist build/wheel-venv && mkdir -p build
	$(PYTHON) -m venv build/wheel-venv
	build/wheel-venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip build
	build/wheel-venv/bin/python -m build --wheel --outdir dist . >build/wheel.log
	build/wheel-venv/bin/python -m pip install $(PIP_FLAGS) "$$(ls dist/*.whl)[faiss,highlight]"
	cd build && wheel-venv/bin/rerank-plugins demo

# The recipe behind models/; see training/README.md. Needs the collections in DATA.
DATA ?= ../shared/data
models: .venv-train/ready
	.venv-train/bin/python training/make_models.py --data $(DATA)

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	.venv/bin/python -m pip install $(PIP_FLAGS) -e '.[all]' --group test --group lint
	touch $@

.venv-demo/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	.venv-demo/bin/python -m pip install $(PIP_FLAGS) -e '.[faiss,highlight,langchain,llama-index]' --group demo
	touch $@

.venv-notebook/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-notebook
	.venv-notebook/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	.venv-notebook/bin/python -m pip install $(PIP_FLAGS) -e '.[eval,highlight,langchain,llama-index]' --group notebook
	touch $@

.venv-bench/ready: pyproject.toml constraints.txt benchmarks/requirements-peers.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	.venv-bench/bin/python -m pip install $(PIP_FLAGS) -e '.[all]' -r benchmarks/requirements-peers.txt
	touch $@

.venv-fuzz/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	.venv-fuzz/bin/python -m pip install $(PIP_FLAGS) -e . --group fuzz
	touch $@

.venv-train/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-train
	.venv-train/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	.venv-train/bin/python -m pip install $(PIP_FLAGS) -e '.[train]' --group models
	touch $@

clean:
	rm -rf .venv .venv-demo .venv-notebook .venv-bench .venv-fuzz .venv-train build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
