"""A model that can learn, a collection to learn from, and a whole training of the one on the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from collections_to_learn import RECIPE, make_collection
from rerank_plugins.training import Training, train_reranker
from stand_in_models import write_bert


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT cross-encoder of two layers with the weights that transformers initializes: it orders by chance."""
    folder = tmp_path_factory.mktemp("bases") / "base"
    folder.mkdir()
    write_bert(folder, initializer_range=0.02)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 training queries and 12 test queries, with a run file beside the folder."""
    return make_collection().write(tmp_path_factory.mktemp("collections") / "bakery")


@pytest.fixture(scope="session")
def training(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A training from the data to the card."""
    output = tmp_path_factory.mktemp("trained") / "baker"
    return train_reranker(data, base, output_folder=output, run_file=data.with_suffix(".run"), **RECIPE)
