"""A stand-in that can learn, a collection to learn from, and one whole training of the one on the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from collections_to_learn import RECIPE, made
from rerank_plugins.training import Training, train_reranker
from stand_in_models import write_bert


@pytest.fixture(scope="session")
def pupil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT cross-encoder of two layers, as transformers begins one: it orders by chance."""
    folder = tmp_path_factory.mktemp("bases") / "pupil"
    folder.mkdir()
    write_bert(folder, initializer_range=0.02)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 queries to learn from and 12 to evaluate, with a run file beside it."""
    return made().write(tmp_path_factory.mktemp("collections") / "bakery")


@pytest.fixture(scope="session")
def whole(pupil: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """One training from the data to the card."""
    out = tmp_path_factory.mktemp("trained") / "baker"
    return train_reranker(data, pupil, out=out, run=data.with_suffix(".run"), **RECIPE)
