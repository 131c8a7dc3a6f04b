"""`Calibration`: its curve, its file, and what it does to the results of a `Reranker`."""

from __future__ import annotations

import json
import logging
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_plugins import Calibration, InvalidInputError, Reranker, load_reranker
from rerank_plugins.hub import find_model
from rerank_plugins.langchain import RerankCompressor
from rerank_plugins.loading import LoadedReranker
from scorers import Gives

SAYS: dict[str, Any] = {"model": "a/model", "fitted_on": "x: 9 pairs", "ece_before": 0.25, "ece_after": 0.125}
PLATT = Calibration(method="platt", slope=0.5, intercept=-2.0, **SAYS)
ISOTONIC = Calibration(method="isotonic", scores=(-1.0, 0.0, 2.0), probabilities=(0.1, 0.1, 0.9), **SAYS)
LARGEST = sys.float_info.max

finite = st.floats(allow_nan=False, allow_infinity=False)
within = st.floats(-1e300, 1e300)
shares = st.floats(0, 1)
said = {"model": st.text(), "fitted_on": st.text(), "ece_before": shares, "ece_after": shares}
platts = st.builds(Calibration, method=st.just("platt"), slope=st.floats(0, 1e300), intercept=within, **said)


@st.composite
def isotonics(draw: st.DrawFn) -> Calibration:
    scores = draw(st.lists(within, min_size=2, max_size=6, unique=True).map(sorted))
    probabilities = draw(st.lists(shares, min_size=len(scores), max_size=len(scores)).map(sorted))
    return Calibration(method="isotonic", scores=tuple(scores), probabilities=tuple(probabilities), **SAYS)


calibrations = platts | isotonics()


@pytest.mark.parametrize(
    ("score", "expected"), [(-1e308, 0.0), (0.0, 1 / (1 + math.exp(2))), (4.0, 0.5), (LARGEST, 1.0)]
)
def test_platts_curve_is_logistic(score: float, expected: float) -> None:
    """It is 1 / (1 + e^-(slope · score + intercept)), and has no overflow far out."""
    assert PLATT.probability(score) == pytest.approx(expected, abs=1e-300)


@pytest.mark.parametrize(
    ("score", "expected"),
    [(-1e308, 0.1), (-1.0, 0.1), (-0.5, 0.1), (0.0, 0.1), (1.0, 0.5), (1.5, 0.7), (2.0, 0.9), (LARGEST, 0.9)],
)
def test_an_isotonic_curve_runs_straight_between_its_knots(score: float, expected: float) -> None:
    """Between two knots it is linear, beyond the first and the last it is level."""
    assert ISOTONIC.probability(score) == pytest.approx(expected)


def test_an_isotonic_curve_is_scikit_learns() -> None:
    """A curve of its thresholds says what IsotonicRegression with out_of_bounds="clip" predicts."""
    import numpy as np
    from sklearn.isotonic import IsotonicRegression

    chance = np.random.default_rng(0)
    scores = chance.normal(0, 3, 500)
    regression = IsotonicRegression(out_of_bounds="clip").fit(scores, chance.random(500) < 1 / (1 + np.exp(-scores)))
    curve = replace(
        ISOTONIC,
        scores=tuple(regression.X_thresholds_.tolist()),
        probabilities=tuple(regression.y_thresholds_.tolist()),
    )
    asked = chance.normal(0, 5, 1000)
    assert [curve.probability(score) for score in asked] == pytest.approx(regression.predict(asked).tolist(), abs=1e-12)


@given(calibrations, finite, finite)
def test_a_probability_lies_in_0_to_1_and_never_falls(calibration: Calibration, one: float, other: float) -> None:
    """For any finite scores, those next to the largest float and next to each other included."""
    for low, high in (sorted((one, other)), (one, math.nextafter(one, LARGEST)), (-LARGEST, one), (one, LARGEST)):
        assert 0.0 <= calibration.probability(low) <= calibration.probability(high) <= 1.0


def test_just_below_a_knot_is_not_above_it() -> None:
    """.3 + 1 · (.9 - .3) is above .9 in floating point, and the share below a knot rounds to 1."""
    calibration = replace(ISOTONIC, scores=(-1.0, 1e-20), probabilities=(0.3, 0.9))
    assert calibration.probability(5e-21) <= calibration.probability(1e-20) == 0.9


@given(isotonics(), st.floats(0, 1), st.floats(0, 1))
def test_it_never_falls_between_knots_either(calibration: Calibration, one: float, other: float) -> None:
    """Scores drawn between the first and the last knot, where the curve rises."""
    first, last = calibration.scores[0], calibration.scores[-1]
    low, high = sorted(first / 2 + (last / 2 - first / 2) * share for share in (one, other))
    assert calibration.probability(2 * low) <= calibration.probability(2 * high)


@given(calibrations, st.lists(finite, min_size=1, max_size=8))
def test_no_calibration_changes_the_order(calibration: Calibration, scores: list[float]) -> None:
    """Results come in the order of the raw scores, also where the curve is level; their scores never rise."""
    documents = [str(number) for number in range(len(scores))]
    calibrated = Reranker(Gives(*scores), calibration=calibration).rerank("q", documents)
    assert [result.index for result in calibrated] == [
        result.index for result in Reranker(Gives(*scores)).rerank("q", documents)
    ]
    found = [result.score for result in calibrated]
    assert found == sorted(found, key=lambda score: -(score or 0.0))
    assert found == [calibration.probability(scores[result.index]) for result in calibrated]


@given(calibrations)
def test_a_file_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, calibration: Calibration) -> None:
    """To the last bit, whatever the numbers and names are."""
    path = tmp_path_factory.getbasetemp() / "calibration.json"
    calibration.write(path)
    assert Calibration.read(path) == calibration


def test_a_file_is_small_and_says_what_it_is(tmp_path: Path) -> None:
    """One JSON object with its kind, its format, and only the numbers of its curve."""
    PLATT.write(tmp_path / "calibration.json")
    assert json.loads((tmp_path / "calibration.json").read_text()) == {
        "kind": "rerank-plugins calibration",
        "version": 1,
        "method": "platt",
        "slope": 0.5,
        "intercept": -2.0,
        **SAYS,
    }


def test_writing_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    """A file that is there is replaced, and none of the writing's own stays behind."""
    path = tmp_path / "calibration.json"
    PLATT.write(path)
    ISOTONIC.write(path)
    assert Calibration.read(path) == ISOTONIC
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """No such folder, or a folder in the file's place."""
    for path in (tmp_path / "not" / "there.json", tmp_path):
        with pytest.raises(InvalidInputError, match="cannot be written to"):
            PLATT.write(path)


GOOD: dict[str, Any] = {
    "kind": "rerank-plugins calibration",
    "version": 1,
    "method": "platt",
    "slope": 1,
    "intercept": 0,
    **SAYS,
}
CURVE: dict[str, Any] = {
    "kind": "rerank-plugins calibration",
    "version": 1,
    "method": "isotonic",
    "scores": [0, 1],
    "probabilities": [0, 1],
    **SAYS,
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe{", "is not JSON"),
        (b'{"kind": "rerank-plu', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is no calibration"),
        (b'{"slope": 1}', "is no calibration"),
        (json.dumps({**GOOD, "version": 2}).encode(), "has the format 2, and this release reads 1"),
        (json.dumps({**GOOD, "extra": 2}).encode(), "is damaged.*extra"),
        (json.dumps({key: GOOD[key] for key in GOOD if key != "model"}).encode(), "is damaged.*model"),
        (json.dumps({key: GOOD[key] for key in GOOD if key != "slope"}).encode(), "no slope"),
        (json.dumps({**GOOD, "slope": None}).encode(), "slope must be a finite number"),
        (json.dumps({**GOOD, "slope": True}).encode(), "slope must be a finite number"),
        (json.dumps({**GOOD, "slope": math.nan}).encode(), "slope must be a finite number"),
        (json.dumps({**GOOD, "slope": -1}).encode(), "slope must be 0 or more"),
        (json.dumps({**GOOD, "intercept": 10**400}).encode(), "intercept must be a finite number"),
        (json.dumps({**GOOD, "method": ["platt"]}).encode(), "method must be 'platt' or 'isotonic'"),
        (json.dumps({**GOOD, "model": 1}).encode(), "must be strings"),
        (json.dumps({**GOOD, "ece_after": 2}).encode(), r"ece_after must lie in \[0, 1\]"),
        (json.dumps({**CURVE, "scores": [0]}).encode(), "got 1 and 2"),
        (json.dumps({**CURVE, "scores": [0, 0]}).encode(), "must ascend strictly"),
        (json.dumps({**CURVE, "scores": "01"}).encode(), "must be a list of numbers"),
        (json.dumps({**CURVE, "scores": [0, "1"]}).encode(), "scores must be a finite number"),
        (json.dumps({**CURVE, "probabilities": [1, 0]}).encode(), "must ascend from 0 to 1"),
        (json.dumps({**CURVE, "probabilities": [0, 1.5]}).encode(), "must ascend from 0 to 1"),
    ],
)
def test_a_damaged_or_foreign_file_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    """It names the file, what is wrong with it, and what makes a right one."""
    path = tmp_path / "calibration.json"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=message) as caught:
        Calibration.read(path)
    assert str(path) in str(caught.value)
    assert "rerank-plugins calibrate" in str(caught.value)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Nothing there, or a folder."""
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(InvalidInputError, match="cannot be read"):
            Calibration.read(path)


@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever stands in the file, there is no other exception."""
    path = tmp_path_factory.getbasetemp() / "bytes.json"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError):
        Calibration.read(path)


def test_results_carry_probabilities_and_score_stays_raw() -> None:
    """On a scale of probabilities too the calibration is asked for the scorer's own numbers; blank documents stay 0."""
    for scale in ("logit", "probability"):
        reranker = Reranker(Gives(1.0, 0.5), scale=scale, calibration=ISOTONIC)  # type: ignore[arg-type]
        results = reranker.rerank("q", ["a", " ", "b"])
        assert [(result.index, result.score) for result in results] == [(0, 0.5), (2, pytest.approx(0.3)), (1, 0.0)]
        assert reranker.score([("q", "a"), ("q", "b")]) == [1.0, 0.5]


def test_the_threshold_is_a_probability() -> None:
    """score_threshold cuts by the calibrated score, and can leave nothing."""
    reranker = Reranker(Gives(3.0, 5.0), calibration=PLATT)
    assert [result.index for result in reranker.rerank("q", ["a", "b"], score_threshold=0.5)] == [1]
    assert reranker.rerank("q", ["a", "b"], score_threshold=0.7) == []


async def test_async_results_are_calibrated_too() -> None:
    """Arerank gives what rerank gives."""
    reranker = Reranker(Gives(3.0, 5.0), calibration=PLATT)
    assert await reranker.arerank("q", ["a", "b"]) == reranker.rerank("q", ["a", "b"])


@pytest.mark.parametrize("wrong", ["calibration.json", Calibration, 3])
def test_a_reranker_takes_a_calibration_only(wrong: Any) -> None:
    """A path is named where it belongs."""
    with pytest.raises(InvalidInputError, match="must be a Calibration"):
        Reranker(Gives(1.0), calibration=wrong)


@pytest.mark.parametrize("wrong", [PLATT, 3, " ", b"x"])
def test_load_reranker_takes_a_path_only(wrong: Any) -> None:
    """Anything else is refused before the model is looked for, with what makes such a file."""
    with pytest.raises(InvalidInputError, match=r"calibration must be a string or a Path.*rerank-plugins calibrate"):
        load_reranker("no-such-model", local_files_only=True, calibration=wrong)


def test_the_file_is_read_before_the_model_is_looked_for(tmp_path: Path) -> None:
    """A missing file is an error at once."""
    with pytest.raises(InvalidInputError, match=r"none\.json cannot be read"):
        load_reranker("no-such-model", local_files_only=True, calibration=tmp_path / "none.json")


@pytest.fixture(scope="module")
def mini_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A curve for the bundled model; not a fitted one."""
    path = tmp_path_factory.mktemp("calibration") / "mini.json"
    replace(PLATT, model="rerank-mini-en").write(path)
    return path


def test_a_loaded_reranker_is_calibrated_and_its_pickle_too(mini_file: Path) -> None:
    """The file's curve makes the scores; what a pickle keeps is the file's path."""
    import pickle

    with load_reranker("rerank-mini-en", calibration=mini_file) as reranker:
        (result,) = reranker.rerank("a phone", ["It is made of titanium."])
        (raw,) = reranker.score([("a phone", "It is made of titanium.")])
        assert result.score == replace(PLATT, model="rerank-mini-en").probability(raw)
        written = pickle.dumps(reranker)
    with pickle.loads(written) as again:  # noqa: S301 - our own
        assert isinstance(again, LoadedReranker)
        assert again.calibration == reranker.calibration
        assert again.loaded_from.calibration == str(mini_file)


def test_an_adapter_takes_the_file(mini_file: Path) -> None:
    """The field reaches the model, and a wrong one is named."""
    compressor = RerankCompressor(model="rerank-mini-en", calibration=mini_file)
    assert compressor._reranker().calibration == Calibration.read(mini_file)
    with pytest.raises(ValueError, match="calibration must be a string or a Path, not blank; got 7"):
        RerankCompressor(calibration=7)  # type: ignore[arg-type]


@pytest.mark.parametrize(("fitted_with", "warned"), [("rerank-mini-en", False), ("BAAI/bge-reranker-v2-m3", True)])
def test_a_calibration_of_another_model_is_used_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fitted_with: str, *, warned: bool
) -> None:
    """Both models are named in one line of the log; a folder of the same name is the same model."""
    path = tmp_path / "calibration.json"
    replace(PLATT, model=fitted_with).write(path)
    with caplog.at_level(logging.WARNING, "rerank_plugins"):
        load_reranker(find_model("rerank-mini-en"), calibration=path).close()
    assert [fitted_with in record.message and "rerank-mini-en" in record.message for record in caplog.records] == (
        [True] if warned else []
    )


def test_the_curve_loads_no_numpy() -> None:
    """Reading a calibration and asking it needs nothing but the standard library."""
    from run_python import run_python

    code = (
        "import sys; from rerank_plugins import Calibration; "
        "c = Calibration(method='platt', model='', fitted_on='', ece_before=0, ece_after=0); "
        "print(c.probability(0), [name for name in ('numpy', 'sklearn', 'scipy') if name in sys.modules])"
    )
    assert run_python(code) == "0.5 []"
