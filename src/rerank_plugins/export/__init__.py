"""Export: a cross-encoder as OpenVINO IR in fp32, bf16 or int8, with a report of what it kept of the model.

Needs the extra ``export``; and ``torch`` for a model that has torch weights only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rerank_plugins._internal.files import expand
from rerank_plugins.backends.cpu import explain_no_bf16, has_bf16
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.export import artifacts as saving
from rerank_plugins.export.calibration_data import read_texts
from rerank_plugins.export.run import ExportPrecision, Job
from rerank_plugins.hub.cache_dirs import conversion_folder
from rerank_plugins.hub.config import check_cross_encoder
from rerank_plugins.hub.fidelity_report import is_accepted
from rerank_plugins.hub.lookup import find_model

__all__ = ["Export", "ExportPrecision", "export_model"]


@dataclass(frozen=True, slots=True)
class Export:
    """What `export_model` made."""

    folder: Path
    """For `load_reranker`: the model, or the folder given as ``out``."""

    file: Path
    """The IR. An earlier int8, if the new one fell below the floor and would have taken its place."""

    report: dict[str, Any]
    """As in ``openvino/fidelity.json``; see `fidelity.compare` for its keys."""

    @property
    def is_default(self) -> bool:
        """Whether ``precision="auto"`` may take it: it passed, or was accepted below the floor.

        It takes int8 where the processor multiplies int8 exactly (VNNI, AMX); elsewhere int8 gains nothing.
        """
        return is_accepted(self.report)


def export_model(
    model: str | Path,
    precision: ExportPrecision = "int8",
    *,
    calibration: str | Path | None = None,
    out: str | Path | None = None,
    accept: bool = False,
    queries: int = 40,
    revision: str | None = None,
    cache_folder: str | Path | None = None,
    local_files_only: bool = False,
    progress: bool = False,
) -> Export:
    """Write ``model`` as OpenVINO IR and say how far its scores are from the model's own.

    An export that is there already, of the same weights and texts, is not made again.

    Args:
        model: As `load_reranker` takes it.
        precision: fp32 and bf16 are one file, computed in either; their reports differ. int8 is a file of its own.
        calibration: A folder in BEIR layout, or a file of ``{"query": ..., "document": ...}`` lines. Half of its
            queries at least set the ranges of int8, others are compared on. None: what this project wrote, in
            English and Chinese. Where queries are judged, the report has nDCG@10.
        out: A folder for a model of its own, with tokenizer and configuration. None: beside the weights; of hub
            models, in the cache that ``RERANK_PLUGINS_CACHE`` moves.
        accept: Let the automatic choice take the export even below the floor of fidelity.
        queries: How many to compare on, at most.
        revision: As in `load_reranker`; so are ``cache_folder`` and ``local_files_only``.
        cache_folder: See ``revision``.
        local_files_only: See ``revision``.
        progress: Show how far it is, on standard error.

    Returns:
        Where it is, and the report. Look at ``is_default``: below the floor nothing is raised.

    Raises:
        InvalidInputError: An option outside its range, or texts that cannot be used.
        ModelNotFoundError: No place has the model.
        ModelLoadError: The model's files cannot be used.
        MissingExtraError: An extra is not installed.
        ExportError: No room on the disk, or a folder that cannot be written to.
    """
    if precision not in get_args(ExportPrecision):
        raise InvalidInputError(f"precision must be one of {', '.join(get_args(ExportPrecision))}; got {precision!r}.")
    if isinstance(queries, bool) or not isinstance(queries, int) or queries < 1:
        raise InvalidInputError(f"queries must be a whole number of at least 1, got {queries!r}.")
    if precision == "bf16" and not has_bf16():
        raise InvalidInputError(
            f"precision='bf16' is compared by computing in it, and {explain_no_bf16()}. "
            f"Export on another, or take precision='fp32': the file is the same."
        )
    folder = find_model(model, revision=revision, cache_folder=cache_folder, local_files_only=local_files_only)
    check_cross_encoder(folder)
    target = conversion_folder(folder) if out is None else expand(out)
    job = Job(folder, target, precision, progress=progress)
    with saving.alone(target):
        texts = read_texts(None if calibration is None else expand(calibration), job.encoder, queries)
        report = job.run(texts, accept=accept)
    return Export(folder if out is None else target, job.result, report)
