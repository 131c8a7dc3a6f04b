from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rerank_plugins import load_reranker
from rerank_plugins.backends.cpu import has_bf16
from rerank_plugins.retrieval import example_corpus, read_corpus
from stand_in_models import write_bert

REQUESTS, WARM_UP = 13_000, 3_000


def memory() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads /proc")
def test_ten_thousand_requests_leave_nothing_behind(tmp_path: Path) -> None:
    """Requests of mixed sizes and ways, some late, some cut off: memory, files and threads stay what they were."""
    texts = [passage.text[: 10 + 9 * n % 200] for n, passage in enumerate(read_corpus(example_corpus()))]
    draw = random.Random(0)
    reranker = load_reranker("rerank-mini-en", score_cache=2000, score_cache_folder=tmp_path)

    def request(number: int) -> int:
        found = draw.sample(texts, draw.choice([1, 1, 2, 3, 5, 12]))
        ways = ({}, {"deadline": 30.0}, {"deadline": 0.005}, {"top_n": 2}, {"on_error": "keep_order"})
        return len(reranker.rerank(f"{number % 700} {texts[number % 50][:30]}", found, **ways[number % 5]))  # type: ignore[arg-type]

    with ThreadPoolExecutor(8) as pool:
        # OpenVINO keeps buffers for the largest batch it has met, and kernels for every shape.
        reranker.rerank(
            "all of them at once, in batches as large as they get", [f"{text} {n}" for n in range(4) for text in texts]
        )
        list(pool.map(request, range(WARM_UP)))
        before = memory(), len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
        list(pool.map(request, range(WARM_UP, REQUESTS)))
        after = memory(), len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    stats = reranker.stats()
    reranker.close()
    assert (stats.requests, stats.waiting_pairs) == (REQUESTS + 1, 0)
    assert after[0] < 1.05 * before[0], (before, after)
    assert after[1:] == before[1:]


@pytest.fixture(scope="module")
def four_layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT cross-encoder whose kernels are a part of its memory that can be seen: 4 layers of 128."""
    folder = tmp_path_factory.mktemp("four-layers")
    shape = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
    write_bert(folder, **shape)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads /proc")
@pytest.mark.parametrize(
    ("engine", "precision"),
    [
        ("openvino", "int8"),
        pytest.param("openvino", "bf16", marks=pytest.mark.skipif(not has_bf16(), reason="needs bf16")),
        ("openvino", "fp32"),
        ("torch", "fp32"),
    ],
)
def test_texts_of_all_lengths_leave_nothing_behind(four_layers: Path, engine: Any, precision: Any) -> None:
    """1 to 60 documents of 1 to 300 words, 1,000 calls: memory grows by less than 5 % after the first 200."""
    # In a process of its own, as users have it: not among what earlier tests freed.
    model = "rerank-mini-en" if precision == "int8" else str(four_layers)
    program = str(Path(__file__).parents[1] / "support" / "long_run.py")
    done = subprocess.run(
        [sys.executable, program, model, engine, precision], capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    assert after < 1.05 * before, (before, after)
