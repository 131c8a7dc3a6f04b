from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "examples/data/plain/questions.jsonl"
KINDS = {"entity", "attribute", "near-copy", "words", "sense", "paraphrase"}
FIELDS = ["id", "language", "split", "question", "candidates", "answer", "misleads"]
LANGUAGES = pytest.mark.parametrize("language", ["en", "zh"])


@pytest.fixture(scope="module")
def questions() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


def test_every_line_has_the_documented_fields(questions: list[dict[str, Any]]) -> None:
    """Each of the 60 lines has the fields of the README, in their order, and a known kind."""
    assert len(questions) == 60
    assert all(list(question) == FIELDS for question in questions)
    assert {question["misleads"] for question in questions} == KINDS


def test_ids_and_questions_are_unique(questions: list[dict[str, Any]]) -> None:
    """No id and no question occurs twice, and an id begins with its language."""
    assert len({question["id"] for question in questions}) == 60
    assert len({question["question"] for question in questions}) == 60
    assert all(question["id"].startswith(question["language"] + "-") for question in questions)


def test_candidates_are_four_to_eight_different_lines(questions: list[dict[str, Any]]) -> None:
    """A question has four to eight different one-line candidates, without blanks around them."""
    for question in questions:
        candidates = question["candidates"]
        assert 4 <= len(candidates) <= 8, question["id"]
        assert len(set(candidates)) == len(candidates), question["id"]
        assert all(text == text.strip() and len(text.splitlines()) == 1 for text in candidates), question["id"]


def test_candidates_are_short(questions: list[dict[str, Any]]) -> None:
    """English candidates have 6 to 25 words, Chinese ones 10 to 45 characters."""
    for question in questions:
        for text in question["candidates"]:
            if question["language"] == "en":
                assert 6 <= len(text.split()) <= 25, text
            else:
                assert 10 <= len(text) <= 45, text


def test_the_answer_is_one_of_the_candidates(questions: list[dict[str, Any]]) -> None:
    """The answer is an index into the candidates."""
    assert all(question["answer"] in range(len(question["candidates"])) for question in questions)


@LANGUAGES
def test_no_position_gives_the_answer_away(questions: list[dict[str, Any]], language: str) -> None:
    """In each language, every one of the first four positions is right in 3 to 7 of the 30 questions."""
    positions = Counter(question["answer"] for question in questions if question["language"] == language)
    assert all(3 <= positions[position] <= 7 for position in range(4))
    assert max(positions.values()) <= 7


@LANGUAGES
def test_splits_are_balanced(questions: list[dict[str, Any]], language: str) -> None:
    """The splits alternate: each has 15 questions of each language."""
    splits = [question["split"] for question in questions if question["language"] == language]
    assert Counter(splits) == {"choose": 15, "report": 15}
    assert all(before != after for before, after in pairwise(splits))


def test_kinds_are_balanced(questions: list[dict[str, Any]]) -> None:
    """Each kind of misleading candidates has five questions in each split and five in each language."""
    splits = Counter((question["misleads"], question["split"]) for question in questions)
    languages = Counter((question["misleads"], question["language"]) for question in questions)
    assert set(splits.values()) == set(languages.values()) == {5}
