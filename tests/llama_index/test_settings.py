"""Fields of `RerankPostprocessor`: what is checked, shared, written down and read again."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode
from llama_index.core.workflow import JsonPickleSerializer, JsonSerializer
from pydantic import ValidationError

from llama_index_stand_ins import QUERY, ByLength, nodes
from rerank_plugins import InvalidInputError, Reranker, load_reranker
from rerank_plugins.llama_index import RerankPostprocessor

SETTINGS = [
    RerankPostprocessor(),
    RerankPostprocessor(model="a/b", top_n=None, score_threshold=0.25, engine="torch", revision="v1", device="cpu"),
    RerankPostprocessor(calibration=Path("calibration.json")),
    RerankPostprocessor(keep_retrieval_score=True, metadata_mode=MetadataMode.NONE, local_files_only=True),
]


class Locked(ByLength):
    """A scorer that cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def settings(postprocessor: BaseNodePostprocessor) -> dict[str, Any]:
    return postprocessor.to_dict()


def test_defaults() -> None:
    """Five nodes, no threshold, and the multilingual model."""
    postprocessor = RerankPostprocessor()
    assert (postprocessor.top_n, postprocessor.score_threshold) == (5, None)
    assert postprocessor.model == "BAAI/bge-reranker-v2-m3"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"top_n": -1}, "top_n must be 0 or more"),
        ({"top_n": 2.5}, "top_n must be an integer"),
        ({"score_threshold": 1.5}, r"score_threshold must lie in \[0, 1\]"),
        ({"metadata_mode": "everything"}, "'all', 'embed', 'llm' or 'none'"),
        ({"engine": "onnx"}, "'auto', 'torch' or 'openvino'"),
        ({"max_length": 0}, "max_length must be a whole number of at least 1"),
        ({"reranker": "rerank-mini-en"}, "Name a model with model="),
        ({"topn": 3}, "RerankPostprocessor has no option 'topn'"),
        ({"top_k": 3}, "It is called top_n"),
        ({"use_fp16": True}, "precision='fp16'"),
        ({"trust_remote_code": True}, "never run"),
    ],
)
def test_wrong_settings_are_refused_when_they_are_set(wrong: dict[str, Any], message: str) -> None:
    """On construction and on assignment, which leaves the postprocessor as it was."""
    with pytest.raises(ValidationError, match=message):
        RerankPostprocessor(**wrong)
    postprocessor = RerankPostprocessor()
    with pytest.raises(ValidationError, match=message):
        setattr(postprocessor, *next(iter(wrong.items())))
    assert settings(postprocessor) == settings(RerankPostprocessor())


def test_loading_options_beside_a_reranker_are_refused() -> None:
    """What is loaded cannot be loaded otherwise: the error says where the option belongs."""
    with pytest.raises(ValidationError, match="got reranker and, beside it, precision"):
        RerankPostprocessor(reranker=ByLength(), precision="int8")


def test_one_model_serves_all_with_equal_settings() -> None:
    """Two postprocessors of equal loading options share one loaded model; others have their own."""
    first = RerankPostprocessor(model="rerank-mini-en", top_n=1)._reranker()
    assert RerankPostprocessor(model="rerank-mini-en", keep_retrieval_score=True)._reranker() is first
    assert RerankPostprocessor(model="rerank-mini-en", max_length=100)._reranker() is not first


@pytest.mark.parametrize("postprocessor", SETTINGS)
def test_to_dict_and_from_dict_round_trip(postprocessor: RerankPostprocessor) -> None:
    """As a dictionary, as JSON, and through pydantic's own dump."""
    written = settings(postprocessor)
    assert settings(RerankPostprocessor.from_dict(written)) == written
    assert settings(RerankPostprocessor.from_json(postprocessor.to_json())) == written
    assert settings(RerankPostprocessor.model_validate(postprocessor.model_dump())) == written
    assert written["class_name"] == "RerankPostprocessor"


@pytest.mark.parametrize("postprocessor", SETTINGS)
@pytest.mark.parametrize("serializer", [JsonSerializer, JsonPickleSerializer])
def test_a_workflow_context_round_trips(postprocessor: RerankPostprocessor, serializer: Any) -> None:
    """A workflow's state may hold it."""
    again = serializer().deserialize(serializer().serialize({"stage": postprocessor}))["stage"]
    assert isinstance(again, RerankPostprocessor)
    assert settings(again) == settings(postprocessor)


def test_a_loaded_reranker_is_written_as_its_options() -> None:
    """to_dict of a postprocessor around load_reranker(...) names the model and how it was loaded."""
    postprocessor = RerankPostprocessor(reranker=load_reranker("rerank-mini-en", max_length=128), top_n=7)
    again = RerankPostprocessor.from_dict(postprocessor.to_dict())
    assert settings(again) == settings(RerankPostprocessor(model="rerank-mini-en", max_length=128, top_n=7))


def test_a_scorer_of_ones_own_is_not_read_as_something_else() -> None:
    """to_dict refuses it, and what model_dump writes validates to no other model."""
    postprocessor = RerankPostprocessor(reranker=ByLength())
    with pytest.raises(InvalidInputError, match="ByLength cannot be written into a dictionary, only pickled"):
        postprocessor.to_dict()
    with pytest.raises(ValidationError, match="must be a Reranker or a scorer, got 'ByLength, which cannot"):
        RerankPostprocessor.model_validate(postprocessor.model_dump())


def test_a_workflow_keeps_a_scorer_that_can_be_pickled() -> None:
    """With pickle it comes back, with JSON alone it is refused when it is written."""
    postprocessor = RerankPostprocessor(reranker=ByLength(), top_n=1)
    again = JsonPickleSerializer().deserialize(JsonPickleSerializer().serialize(postprocessor))
    assert again.postprocess_nodes(nodes(), query_str=QUERY) == postprocessor.postprocess_nodes(
        nodes(), query_str=QUERY
    )
    with pytest.raises(ValueError, match="Failed to serialize value"):
        JsonSerializer().serialize(postprocessor)


def test_left_out_defaults_do_not_lose_the_model() -> None:
    """exclude_defaults and exclude_unset keep the options of a loaded reranker."""
    postprocessor = RerankPostprocessor(reranker=load_reranker("rerank-mini-en", max_length=128), top_n=7)
    for left_out in ({"exclude_defaults": True}, {"exclude_unset": True}):
        again = RerankPostprocessor.from_dict(postprocessor.to_dict(**left_out))
        assert (again.model, again.max_length, again.top_n) == ("rerank-mini-en", 128, 7)


@pytest.mark.parametrize("name", ["cohere_api_key", "hub_token"])
def test_a_secret_given_by_mistake_is_not_repeated(name: str) -> None:
    """An option left over from a service is refused without its value."""
    given: Any = {name: "sk-secret"}
    with pytest.raises(ValidationError, match=f"no option '{name}'") as caught:
        RerankPostprocessor(**given)
    assert "sk-secret" not in str(caught.value)


def test_the_callback_manager_is_checked() -> None:
    """None is a manager without handlers, and what is none is an error."""
    postprocessor = RerankPostprocessor(reranker=ByLength(), callback_manager=None)  # type: ignore[arg-type]
    assert len(postprocessor.postprocess_nodes(nodes(), query_str=QUERY)) == 3
    postprocessor.callback_manager = None  # type: ignore[assignment]
    assert len(postprocessor.postprocess_nodes(nodes(), query_str=QUERY)) == 3
    with pytest.raises(ValidationError, match="must be a CallbackManager, got str"):
        RerankPostprocessor(callback_manager="x")  # type: ignore[arg-type]


class Keyed(LlamaDebugHandler):
    """A handler with what must not be written down: a key, and a lock, which cannot be copied."""

    def __init__(self) -> None:
        super().__init__(print_trace_on_end=False)
        self.api_key, self.lock = "sk-secret", threading.Lock()


def test_nothing_secret_is_written(box: Reranker) -> None:
    """What callback handlers hold is in none of the forms."""
    for fields in ({"model": "rerank-mini-en"}, {"reranker": box}):
        postprocessor = RerankPostprocessor(**fields, callback_manager=CallbackManager([Keyed()]))
        postprocessor.postprocess_nodes(nodes(), query_str=QUERY)
        written = (postprocessor.to_json(), str(postprocessor.model_dump()), str(pickle.dumps(postprocessor)))
        assert not any("sk-secret" in form for form in written)
        assert json.loads(written[0])["model"] == "rerank-mini-en"


def test_a_pickle_holds_no_weights(box: Reranker) -> None:
    """By name or around a loaded reranker, it is below 2 kB after many calls, and loads nothing until it ranks."""
    for postprocessor in (RerankPostprocessor(model="rerank-mini-en"), RerankPostprocessor(reranker=box)):
        for _ in range(10):
            expected = postprocessor.postprocess_nodes(nodes(), query_str=QUERY)
        data = pickle.dumps(postprocessor)
        assert len(data) < 2000
        again = pickle.loads(data)  # noqa: S301 - our own
        assert (again.reranker, again.model) == (None, "rerank-mini-en")
        assert again.postprocess_nodes(nodes(), query_str=QUERY) == expected


@pytest.mark.slow
def test_a_pickle_is_read_in_another_process(box: Reranker) -> None:
    """A process that only has the pickle ranks with the same model."""
    data = pickle.dumps((RerankPostprocessor(reranker=box, top_n=1), nodes()))
    program = (
        f"import pickle; stage, nodes = pickle.loads({data!r}); "
        f"print(stage.postprocess_nodes(nodes, query_str={QUERY!r})[0].node_id)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "n1"


def test_a_scorer_that_cannot_be_pickled_says_so() -> None:
    """Where LlamaIndex would drop it and go on with the default model, pickling fails."""
    postprocessor = RerankPostprocessor(reranker=Locked(), top_n=1)
    with pytest.raises(TypeError, match="lock"):
        pickle.dumps(postprocessor)
    assert len(postprocessor.postprocess_nodes(nodes(), query_str=QUERY)) == 1  # it is as it was


def test_a_deepcopy_shares_the_scorer() -> None:
    """Copying a postprocessor copies its settings and neither its model nor its callbacks, whatever they are."""
    manager = CallbackManager([Keyed()])
    postprocessor = RerankPostprocessor(reranker=Locked(), top_n=2, callback_manager=manager)
    twin = copy.deepcopy(postprocessor)
    twin.top_n = 1
    assert twin._reranker() is postprocessor._reranker()
    assert twin.callback_manager is manager
    assert (postprocessor.top_n, len(twin.postprocess_nodes(nodes(), query_str=QUERY))) == (2, 1)


def test_settings_have_a_json_schema() -> None:
    """Tools that build forms get one, with the loading options in it."""
    assert {"precision", "top_n", "metadata_mode"} <= RerankPostprocessor.model_json_schema()["properties"].keys()


def test_any_langchain_cross_encoder_serves() -> None:
    """A cross-encoder written for LangChain is taken as it is."""
    from langchain_core.cross_encoders import BaseCrossEncoder

    class Words(BaseCrossEncoder):
        def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
            return [len(text.split()) / 10 for _, text in text_pairs]

    best = RerankPostprocessor(reranker=Words(), top_n=1).postprocess_nodes(nodes(), query_str=QUERY)
    assert best[0].node_id == "n2"
