"""Models that cannot be run rightly are refused, with the reason, what was expected and what to do."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from family_models import write_decoder, write_language_model
from folder_hub import serving
from rerank_plugins import InvalidInputError, ModelLoadError, Pair, load_reranker
from stand_in_models import write_bert

Write = Callable[[str], Path]

CPU = {"engine": "torch", "precision": "fp32", "device": "cpu"}
# As many language models have it: the role of a message is written, whatever it is.
CHATML = "{% for message in messages %}{{ '<' + message.role + '>' + message.content + '</s>' }}{% endfor %}"
CHAT = "{% for message in messages if message.role == 'user' %}{{ message.content }}{% endfor %}"
# As Idefics has it: the role is written with a capital.
CAPITAL = "{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}\n{% endfor %}"
# As Falcon and BlenderBot have it: what is of no known role is written bare.
LINES = (
    "{% for message in messages %}{{ '' if loop.first else '\n' }}{{ 'User: ' if message.role == 'user' else '' }}"
    "{{ message.content }}{% endfor %}"
)
# As Llama 2 has it: what is not the user's is the answer.
ANSWERS = (
    "{% for message in messages %}{% if message.role == 'user' %}[INST] {{ message.content }} [/INST]"
    "{% else %} {{ message.content }}</s>{% endif %}{% endfor %}"
)
POSITIONS = "A: {{ messages[0].content }}\nB: {{ messages[1].content }}"
CHATS = {"for users": CHAT, "for any roles": CHATML, "capitals": CAPITAL, "lines": LINES, "answers": ANSWERS}
# The query and the document of a pair, by their roles.
ROLES = (
    "{%- set q = messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first -%}"
    "{%- set d = messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first -%}"
)


def edit(path: Path, **values: Any) -> None:
    """Set values of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**content, **values}), encoding="utf-8")


def write_template(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


@pytest.fixture
def decoder(family: Write, tmp_path: Path) -> Path:
    """A classifier of Llama's shape, which a test may change."""
    return shutil.copytree(family("llama"), tmp_path / "model", ignore=shutil.ignore_patterns("openvino"))


@pytest.mark.parametrize(
    "template", [None, *CHATS.values(), POSITIONS], ids=["no template", *CHATS, "by the positions of messages"]
)
@pytest.mark.parametrize("write", [write_decoder, write_language_model], ids=["classifier", "language model"])
def test_a_decoder_without_a_template_for_pairs(tmp_path: Path, write: Any, template: str | None) -> None:
    """Bare texts would be ranked, and wrongly."""
    options = {"modules": False} if write is write_language_model else {}
    write(tmp_path / "model", "llama", template=template, **options)
    with pytest.raises(ModelLoadError, match=r"is a decoder \(Llama.*chat_template\.jinja with messages of the roles"):
        load_reranker(tmp_path / "model", **CPU)


def test_a_name_is_not_enough_to_be_a_known_reranker(tmp_path: Path) -> None:
    """The model type has to be that of the known one as well."""
    write_decoder(tmp_path / "Qwen3-Reranker-0.6B", "llama", template=None)
    with pytest.raises(ModelLoadError, match="is a decoder"):
        load_reranker(tmp_path / "Qwen3-Reranker-0.6B", **CPU)


@pytest.mark.parametrize("named", ["Qwen3-Reranker-0.6B", "Mistral-7B"])
def test_a_model_that_is_said_to_be_another(decoder: Path, named: str) -> None:
    """The name is of another model type, or of no model that is known; the message names those that are."""
    (decoder / "chat_template.jinja").unlink()
    edit(decoder / "rerank_plugins.json", template_of=named)
    with pytest.raises(ModelLoadError, match=rf"names '{named}' as template_of\. Expected .* 'llama': Qwen3-Reranker"):
        load_reranker(decoder, **CPU)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ q | upper }} {{ d }}", "changes the texts that it is given"),
        ("{{ q | e }} {{ d }}", "changes the texts that it is given"),
        ("{{ q.lstrip() }} {{ d }}", "changes the texts that it is given"),
        ("{{ q }} {{ d[:8000] }}", "changes the texts that it is given"),
        ("{{ d }} {{ q }}", "puts the document before the query"),
        ("{{ q * 2 }} {{ d }}", "names the query or the document more than once"),
        ("{{ q }}{{ d }}", "puts nothing between query and document"),
        ("{% if %}", "cannot be read"),
    ],
)
def test_a_template_that_is_more_than_words_around_the_texts(decoder: Path, template: str, reason: str) -> None:
    """It could not be cut where the passage ends, and other texts would be ranked."""
    write_template(decoder, ROLES + template)
    with pytest.raises(ModelLoadError, match=reason):
        load_reranker(decoder, **CPU)


def test_a_template_is_rendered_in_a_sandbox(decoder: Path) -> None:
    """It comes from whoever published the model, and reaches nothing of this process."""
    attack = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    write_template(decoder, ROLES + attack + "{{ q }} {{ d }}")
    with pytest.raises(ModelLoadError, match="is a decoder"):
        load_reranker(decoder, **CPU)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("JinaForRanking", r"listwise.*Use jina-reranker-v2"),
        ("LayerWiseMiniCPMForCausalLM", r"layerwise.*Use BAAI/bge-reranker-v2-gemma"),
        ("CostWiseGemmaForCausalLM", r"layerwise.*Use BAAI/bge-reranker-v2-gemma"),
        ("Qwen3VLForConditionalGeneration", r"multimodal.*Use a reranker of texts"),
    ],
)
def test_a_reranker_of_another_kind(decoder: Path, architecture: str, reason: str) -> None:
    """Listwise, layerwise and multimodal ones, with the nearest that runs."""
    edit(decoder / "config.json", architectures=[architecture], auto_map={"AutoModel": "modeling.Model"})
    with pytest.raises(ModelLoadError, match=rf"cannot be run: {architecture} .*{reason}"):
        load_reranker(decoder, **CPU)


def test_a_reranker_of_another_kind_on_the_hub(decoder: Path, tmp_path: Path) -> None:
    """It is refused before its weights are fetched."""
    edit(decoder / "config.json", architectures=["JinaForRanking"], auto_map={"AutoModel": "modeling.Model"})
    with serving(decoder) as hub:
        printed = hub.score(tmp_path, [])
    assert "ModelLoadError: OWNER/NAME on the hub cannot be run: JinaForRanking reads all documents" in printed
    assert not any(name.endswith(".safetensors") for name in hub.fetched)


def test_the_command_models_says_what_runs(
    decoder: Path, two_labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Callable[..., Any]
) -> None:
    """The family and what it runs on, or why it does not; ``doctor`` gives the same reasons."""
    places = {name: tmp_path / "models" / name for name in ("good", "bare", "labels", "jina-reranker-v3")}
    for name, place in places.items():
        shutil.copytree(two_labels if name == "labels" else decoder, place)
    (places["bare"] / "chat_template.jinja").unlink()
    edit(places["jina-reranker-v3"] / "config.json", architectures=["JinaForRanking"])
    (places["jina-reranker-v3"] / "model.safetensors").unlink()
    monkeypatch.chdir(tmp_path)
    listed = here("models").stdout
    rows = {line.split()[0]: line for line in listed.splitlines() if " models/ " in line}
    assert re.search(r"decoder \(llama\) +(torch|openvino), ", rows["good"])
    assert re.search(r"decoder \(llama\) +no", rows["bare"])
    assert re.search(r"encoder \(bert\),.* no", rows["labels"])
    for printed in (listed, here("doctor").stdout):
        assert "is a decoder (LlamaForSequenceClassification)" in printed
        assert "say which with label=" in printed
        assert "JinaForRanking reads all documents of a query at once" in printed


def test_a_language_model_on_the_hub_is_not_downloaded(tmp_path: Path) -> None:
    """One that chats and ranks nothing; its template says so."""
    write_language_model(tmp_path / "model", "llama", template=CHAT, modules=False)
    with serving(tmp_path / "model") as hub:
        assert "is a decoder (LlamaForCausalLM)" in hub.score(tmp_path, [])
    assert not any(name.endswith(".safetensors") for name in hub.fetched)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_language_model_without_the_rows_of_its_answer(tmp_path: Path, engine: Any) -> None:
    """Transformers would draw them at random."""
    from safetensors.torch import load_file, save_file

    write_language_model(tmp_path / "model", "qwen3")
    file = tmp_path / "model" / "model.safetensors"
    weights = {name: weight for name, weight in load_file(file).items() if name != "lm_head.weight"}
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match=r"no ranking head \(lm_head.weight missing\)"):
        load_reranker(tmp_path / "model", engine=engine, precision="fp32", device="cpu")


def test_a_tokenizer_without_the_answers_token(tmp_path: Path) -> None:
    """The words yes and no are what sentence-transformers takes where no file says otherwise."""
    write_language_model(tmp_path / "model", "qwen3", modules=False)
    path = tmp_path / "model" / "tokenizer.json"
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    vocabulary = {("no answer" if piece == "yes" else piece): number for piece, number in model["vocab"].items()}
    merges = [pair for pair in model["merges"] if "yes" not in (*pair, "".join(pair))]
    edit(path, model={**model, "vocab": vocabulary, "merges": merges})
    with pytest.raises(ModelLoadError, match=r"has no token 'yes', with which .* save it with sentence-tr"):
        load_reranker(tmp_path / "model", **CPU)


def test_an_answer_that_is_computed_otherwise(tmp_path: Path) -> None:
    """Granite divides its logits by a number of its configuration, which the row would leave out."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from family_models import TURNS_TEMPLATE, qwen_tokenizer

    tokenizer = qwen_tokenizer()
    tokenizer.chat_template = TURNS_TEMPLATE
    config = AutoConfig.for_model(
        "granite",
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=64,
        initializer_range=0.3,
        logits_scaling=8.0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(ModelLoadError, match="computes the logits of its answer in a way that is not known here"):
        load_reranker(tmp_path / "model", **CPU)


@pytest.fixture(scope="session")
def two_labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with two labels, as those that were trained on MS MARCO have."""
    folder = tmp_path_factory.mktemp("labels") / "model"
    write_bert(
        folder, num_labels=2, id2label={0: "irrelevant", 1: "relevant"}, label2id={"irrelevant": 0, "relevant": 1}
    )
    return folder


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_label_is_taken_by_its_number(two_labels: Path, pairs: list[Pair], engine: Any) -> None:
    """The sigmoid of its score is the softmax probability that sentence-transformers gives it."""
    from families_reference import reference
    from rerank_plugins import sigmoid

    expected = reference(two_labels).predict(pairs[:20], apply_softmax=True, show_progress_bar=False)[:, 1]
    reranker = load_reranker(two_labels, label=1, engine=engine, precision="fp32", device="cpu")
    assert [sigmoid(logit) for logit in reranker.score(pairs[:20])] == pytest.approx(expected.tolist(), abs=1e-4)


def test_two_labels_that_the_configuration_does_not_name(tmp_path: Path) -> None:
    """Transformers leaves out its default, two labels without names; they are asked for by number as well."""
    write_bert(tmp_path / "model", num_labels=2)
    assert "id2label" not in json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))
    with pytest.raises(ModelLoadError, match=r"gives 2 labels a pair.*say which with label=: 0 \(0\), 1 \(1\)"):
        load_reranker(tmp_path / "model", **CPU)
    assert load_reranker(tmp_path / "model", label=1, **CPU).score([("cat", "bread")])


def test_labels_are_not_mixed_up_in_one_process(two_labels: Path) -> None:
    """Two labels of one model are two engines: one score is the other's, negated."""
    one, other = (load_reranker(two_labels, label=label, **CPU).score([("cat", "bread")])[0] for label in (0, 1))
    assert one == pytest.approx(-other, abs=1e-5)


@pytest.mark.parametrize(
    ("label", "error", "said"),
    [
        (None, ModelLoadError, r"gives 2 labels a pair.*say which with label=: 0 \(irrelevant\), 1 \(relevant\)"),
        (2, InvalidInputError, "label must be from 0 to 1"),
        (-1, InvalidInputError, "label must be a whole number of at least 0"),
    ],
)
def test_a_label_that_is_not_said_or_not_there(two_labels: Path, label: Any, error: Any, said: str) -> None:
    """The labels are named, so that the relevant one can be chosen."""
    with pytest.raises(error, match=said):
        load_reranker(two_labels, label=label, **CPU)


def test_a_label_that_the_model_does_not_give(tmp_path: Path) -> None:
    """Its configuration names two, and its IR gives one: the one is not taken for the other."""
    folder = tmp_path / "model"
    write_bert(folder)
    assert load_reranker(folder, engine="openvino", precision="fp32").score([("cat", "bread")])
    (folder / "model.safetensors").unlink()
    edit(folder / "config.json", id2label={"0": "irrelevant", "1": "relevant"})
    with pytest.raises(ModelLoadError, match="expected several logits for each of 2 pairs, because label=1 is given"):
        load_reranker(folder, label=1)


def test_a_label_of_a_model_with_one(bert_folder: Path) -> None:
    """It would mean nothing."""
    with pytest.raises(InvalidInputError, match="label=0 is for classifiers with several labels"):
        load_reranker(bert_folder, label=0, **CPU)
