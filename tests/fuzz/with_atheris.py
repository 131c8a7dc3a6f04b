"""Runs a check under libFuzzer, from seeds and words that stand in code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BUILD = Path(__file__).parents[2] / "build" / "fuzz"
"""What was found stays here, and the next run begins with it; git ignores it."""


def run(
    check: Callable[[bytes], None], *, seeds: Sequence[bytes], words: Sequence[bytes], subjects: Sequence[Any]
) -> None:
    """Fuzz ``check`` until the time is up or it raises; the command line goes to libFuzzer as it is.

    Args:
        check: Raises if a promise is broken.
        seeds: Inputs to begin with.
        words: What libFuzzer may put into an input at once, of at most 64 bytes each.
        subjects: Functions whose branches libFuzzer is to see, beside those of ``check``.
    """
    import atheris

    for subject in (*subjects, check):
        atheris.instrument_func(subject)
    name = Path(sys.argv[0]).stem
    corpus = BUILD / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    dictionary = BUILD / f"{name}.dict"
    dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in words), encoding="ascii")
    # Seeds stay as they are: what distinguishes them may be in compiled code, where libFuzzer sees no branches.
    options = ["-keep_seed=1", "-reduce_inputs=0", f"-dict={dictionary}", f"-artifact_prefix={BUILD}/{name}-"]
    arguments = [sys.argv[0], *options, *sys.argv[1:]]
    if all(argument.startswith("-") for argument in sys.argv[1:]):
        # Where files are given they are replayed, and nothing is searched.
        arguments.append(str(corpus))
    atheris.Setup(arguments, check)
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)
