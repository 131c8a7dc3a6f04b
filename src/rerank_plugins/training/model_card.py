"""The model card: ``README.md`` with the numbers of a training."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2

from rerank_plugins.errors import TrainingError
from rerank_plugins.evaluation.report import formatting
from rerank_plugins.hub.fidelity_report import describe_shortfall
from rerank_plugins.training.results import Training
from rerank_plugins.training.verdicts import display_name

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def write_model_card(training: Training) -> Path:
    """Write ``README.md`` into the model's folder.

    Raises:
        TrainingError: It cannot be written.
    """
    path = training.folder / "README.md"
    try:
        path.write_text(render_model_card(training), encoding="utf-8", errors="replace")
    except OSError as exc:
        raise TrainingError(f"{path} cannot be written ({exc}). Free space, and run the same command again.") from exc
    return path


def render_model_card(training: Training) -> str:
    """The card as Markdown, with the front matter of the Hugging Face hub."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rerank_plugins.training", ""),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = lambda text: text.replace("|", r"\|")
    names = ("plural", "interval", "number", "p_value", "signed", "signed_interval")
    environment.globals.update({name: getattr(formatting, name) for name in names}, display_name=display_name)
    return environment.get_template("model_card.md.jinja").render(
        training=training,
        name=training.folder.resolve().name,
        folder=str(training.folder),
        base=display_name(training.base),
        # The name of a folder is no repository of the hub.
        base_is_repository=bool(_REPOSITORY.fullmatch(training.base)) and not Path(training.base).is_dir(),
        teacher=display_name(training.teacher) if training.teacher else None,
        data=training.data,
        evaluation=training.evaluation,
        fidelity=training.fidelity,
        shortfall=describe_shortfall(training.fidelity),
        options=training.options,
    )
