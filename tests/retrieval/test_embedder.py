"""Bi-encoders for the first stage."""

from __future__ import annotations

import numpy as np

from rerank_plugins.retrieval import load_embedder


def test_a_lone_surrogate_is_embedded_as_the_replacement_character() -> None:
    """A surrogate that UTF-8 cannot hold becomes U+FFFD; the rest of the text stays as it is."""
    vectors = load_embedder("embed-static-en")(["a red \ud800 house", "a red \ufffd house"])
    np.testing.assert_array_equal(vectors[0], vectors[1])
