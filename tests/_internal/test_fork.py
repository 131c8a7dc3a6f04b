"""Forks of a process that reranks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, 60 seconds at most."""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)


def test_a_fork_while_others_compute() -> None:
    """A child reranks with a thread of its own, the parent's calls go on, and both get the same scores."""
    done = run_script(
        "import os, threading\n"
        "from rerank_plugins import load_reranker\n"
        "reranker = load_reranker('rerank-mini-en')\n"
        "texts = ['apples are healthy', 'a phone of titanium'] * 20\n"
        "expected = [r.index for r in reranker.rerank('a phone', texts)]\n"
        "ends, wrong = threading.Event(), []\n"
        "def call():\n"
        "    while not ends.is_set():\n"
        "        wrong.extend([1] * ([r.index for r in reranker.rerank('a phone', texts)] != expected))\n"
        "threads = [threading.Thread(target=call) for _ in range(3)]\n"
        "[thread.start() for thread in threads]\n"
        "for _ in range(3):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        found = [r.index for r in reranker.rerank('a phone', texts)]\n"
        "        os._exit(0 if found == expected and reranker.stats().waiting_pairs == 0 else 3)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "ends.set()\n"
        "[thread.join() for thread in threads]\n"
        "print(wrong)\n"
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_fork_while_scores_are_kept() -> None:
    """A fork waits for the batch at work before it takes the lock of the cache, which that batch wants."""
    done = run_script(
        "import os, threading\n"
        "from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer\n"
        "from rerank_plugins.inference.score_cache import ScoreCache\n"
        "from rerank_plugins import Reranker\n"
        "from rerank_plugins.testing import SlowEngine, toy_reranker\n"
        "encoder = toy_reranker().scorer.encoder\n"
        "scorer = CrossEncoderScorer(encoder, SlowEngine(seconds=0.005), cache=ScoreCache('toy', 1000))\n"
        "reranker, ends = Reranker(scorer), threading.Event()\n"
        "def call(name):\n"
        "    number = 0\n"
        "    while not ends.is_set():\n"
        "        number += 1\n"
        "        reranker.rerank('q', [f'{name} {number}'])\n"
        "threads = [threading.Thread(target=call, args=(name,)) for name in 'abc']\n"
        "[thread.start() for thread in threads]\n"
        "for _ in range(10):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        os._exit(0 if len(reranker.rerank('q', ['child'])) == 1 else 3)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "ends.set()\n"
        "[thread.join() for thread in threads]\n"
        "print('done')\n"
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.slow
def test_a_fork_while_rerankers_are_made() -> None:
    """Children rerank though other threads of the parent make and drop rerankers."""
    script = (
        "import os, signal, sys, threading\n"
        "from rerank_plugins.testing import toy_reranker\n"
        "sys.setswitchinterval(1e-6)\n"
        "reranker, ends, made = toy_reranker(), threading.Event(), []\n"
        "reranker.rerank('q', ['a'])\n"
        "def make():\n"
        "    while not ends.is_set():\n"
        "        made.append(toy_reranker())\n"
        "        if len(made) > 60:\n"
        "            del made[:30]\n"
        "threads = [threading.Thread(target=make) for _ in range(4)]\n"
        "[thread.start() for thread in threads]\n"
        "for _ in range(100):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        signal.alarm(20)\n"
        "        os._exit(0 if len(reranker.rerank('q', ['child'])) == 1 else 3)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "ends.set()\n"
        "[thread.join() for thread in threads]\n"
        "print('done')\n"
    )
    done = run_script(script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.slow
def test_a_fork_while_a_model_loads() -> None:
    """A child can load a model although a thread of its parent was loading another."""
    done = run_script(
        "import contextlib, os, signal, tempfile, threading\n"
        "from rerank_plugins import InvalidInputError\n"
        "from rerank_plugins.langchain import RerankCrossEncoder\n"
        "pipe = os.path.join(tempfile.mkdtemp(), 'calibration.json')\n"
        "os.mkfifo(pipe)\n"
        "def load():\n"
        "    with contextlib.suppress(InvalidInputError):\n"
        "        RerankCrossEncoder(model='rerank-mini-en', calibration=pipe).score([('q', 'a')])\n"
        "thread = threading.Thread(target=load)\n"
        "thread.start()\n"
        "end = os.open(pipe, os.O_WRONLY)  # returns when the thread reads\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    signal.alarm(30)\n"
        "    os._exit(0 if len(RerankCrossEncoder(model='rerank-mini-en').score([('q', 'a')])) == 1 else 3)\n"
        "status = os.waitpid(child, 0)[1]\n"
        "os.close(end)\n"
        "thread.join()\n"
        "print(status)\n"
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
