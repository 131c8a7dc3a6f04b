"""`export_model`: convert or quantize a model, compare the result with the model, and publish it with a report."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import openvino
from rich.console import Console
from rich.progress import track

from rerank_plugins._internal.extras import check_installed, torch_installed
from rerank_plugins._internal.files import expand
from rerank_plugins._internal.loading_options import HINTS, SOURCE_OPTIONS, EngineName, LoadingOptions, Precision
from rerank_plugins._internal.options import AtLeast, refuse_unknown
from rerank_plugins.backends.cpu import explain_no_bf16, has_bf16
from rerank_plugins.backends.openvino import find_graph, read_graph
from rerank_plugins.errors import ExportError, InvalidInputError, RerankError
from rerank_plugins.export import artifacts
from rerank_plugins.export.calibration_data import CalibrationData, ComparisonQuery, read_calibration_data
from rerank_plugins.export.fidelity import compare
from rerank_plugins.export.quantization import RECIPE, WEIGHTS_ONLY, compress_weights, quantize
from rerank_plugins.hub.cache_dirs import conversion_folder
from rerank_plugins.hub.config import is_decoder, read_config, read_max_input_length
from rerank_plugins.hub.fidelity_report import is_accepted, read_reports, write_reports
from rerank_plugins.hub.folder import ONNX_FILE, OPENVINO_FILE, OPENVINO_INT8_FILE, TORCH_FILES, has_torch_weights
from rerank_plugins.hub.head import check_reranker
from rerank_plugins.hub.lookup import find_model
from rerank_plugins.hub.onnx_files import list_external_files
from rerank_plugins.hub.weights import CONVERTED_FROM_FILE, count_fp32_bytes, fingerprint_weights
from rerank_plugins.retrieval.beir import Collection
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer
from rerank_plugins.tokenization.pair_encoder import PairEncoder

ExportPrecision = Literal["fp32", "bf16", "int8"]
"""The precisions that a model can be exported in."""

MAX_LENGTH = 512
"""Most tokens of a pair, in calibration and in comparison."""

_HINTS = HINTS | {
    "calibration": "It is called calibration_data.",
    "out": "It is called output_folder.",
    "queries": "It is called max_queries.",
    **dict.fromkeys(("engine", "device", "max_length"), "Give it to load_reranker."),
}
"""What to use instead of options that do not exist."""


@dataclass(frozen=True, slots=True)
class Export:
    """The result of `export_model`."""

    folder: Path
    """The folder for `load_reranker`: the model's, or the one given as ``output_folder``."""

    file: Path
    """The IR; an earlier int8 if the new one fell below the floor and would have replaced it."""

    report: dict[str, Any]
    """The report in ``openvino/fidelity.json``; see `fidelity.compare` for its keys."""

    @property
    def is_default(self) -> bool:
        """Whether ``precision="auto"`` may take the export: it passed, or was accepted below the floor.

        It takes int8 where the processor multiplies int8 exactly (VNNI, AMX); elsewhere int8 gains nothing.
        """
        return is_accepted(self.report)


def export_model(
    model: str | Path,
    precision: ExportPrecision = "int8",
    *,
    calibration_data: str | Path | Collection | None = None,
    output_folder: str | Path | None = None,
    accept: bool = False,
    max_queries: int = 40,
    progress: bool = False,
    **source: Any,
) -> Export:
    """Write ``model`` as OpenVINO IR and report how far its scores are from the model's own.

    An export that exists already, of the same weights and texts, is not made again.

    Args:
        model: As `load_reranker` takes it.
        precision: fp32 and bf16 are one file, computed in either; their reports differ. int8 is a file of its own.
        calibration_data: A folder in BEIR layout, or what was read of one; or a file of ``{"query": ..., "document":
            ...}`` lines. At least half of its queries set the ranges of int8; the others are compared on. None: the
            bundled texts of this project, in English and Chinese. With qrels the report has nDCG@10.
        output_folder: A folder for a model of its own, with tokenizer and configuration. None: beside the weights; of
            hub models, in the cache that ``RERANK_PLUGINS_CACHE`` moves.
        accept: Let ``precision="auto"`` take the export even below the floor of fidelity.
        max_queries: How many queries to compare on, at most.
        progress: Show the progress, on standard error.
        **source: ``revision``, ``cache_folder`` and ``local_files_only``, as in `load_reranker`.

    Returns:
        The export and its report. Check ``is_default``: below the floor nothing is raised.

    Raises:
        InvalidInputError: An option that does not exist or is outside its range, or texts that cannot be used.
        ModelNotFoundError: The model was not found.
        ModelLoadError: The model's files cannot be used.
        MissingExtraError: An extra is not installed.
        ExportError: The disk is full, or a folder cannot be written to.
    """
    if precision not in get_args(ExportPrecision):
        raise InvalidInputError(f"precision must be one of {', '.join(get_args(ExportPrecision))}; got {precision!r}.")
    AtLeast(1, "queries").check("max_queries", max_queries)
    refuse_unknown(source, SOURCE_OPTIONS, "export_model", _HINTS)
    options = LoadingOptions(model, **source)
    check_installed("export", "An export", "ir_measures", "nncf", "scipy", "sklearn")
    if precision == "bf16" and not has_bf16():
        raise InvalidInputError(
            f"precision='bf16' is compared by computing in it, and {explain_no_bf16()}. "
            f"Export on another, or take precision='fp32': the file is the same."
        )
    folder = find_model(options.model, **{name: getattr(options, name) for name in SOURCE_OPTIONS})
    check_reranker(folder, takes_label=False)
    target = conversion_folder(folder) if output_folder is None else expand(output_folder)
    exporter = _Exporter(folder, target, precision, progress=progress)
    with artifacts.lock_target(target):
        data = expand(calibration_data) if isinstance(calibration_data, str | Path) else calibration_data
        report = exporter.run(read_calibration_data(data, exporter.encoder, max_queries), accept=accept)
    return Export(folder if output_folder is None else target, exporter.result, report)


class _Exporter:
    """Exports ``folder`` to ``target``, which the caller has locked."""

    def __init__(self, folder: Path, target: Path, precision: ExportPrecision, *, progress: bool) -> None:
        self.folder, self.target, self.precision = folder, target, precision
        self.file = OPENVINO_INT8_FILE if precision == "int8" else OPENVINO_FILE
        self._max_length = min(MAX_LENGTH, read_max_input_length(folder) or MAX_LENGTH)
        self.encoder = PairEncoder.from_folder(folder, self._max_length)
        self._progress = progress
        self._elsewhere = target.resolve() not in {folder.resolve(), conversion_folder(folder).resolve()}
        self._rest_precision: str | None = None
        """The precision of the parts of an int8 model that are not int8, in comparison and later."""
        if precision == "int8":
            self._rest_precision = "bf16" if has_bf16() else "fp32"

    @property
    def result(self) -> Path:
        """The file that the export writes, or that already is the export."""
        graph = find_graph(self.folder)
        return graph if graph is not None and self._is_export(graph) else self.target / self.file

    def run(self, data: CalibrationData, *, accept: bool) -> dict[str, Any]:
        """The report; that of an earlier export if it was of the same weights, texts and recipe.

        An int8 that falls below the floor does not replace one of the same weights that is the default:
        ``kept_earlier`` in the report says so.
        """
        inputs = self._describe_inputs(data)
        reports = read_reports(self.target)
        earlier = reports.get(self.precision, {})
        if earlier.get("inputs") == inputs and self.result.is_file():
            if accept and not earlier["accepted"]:
                earlier["accepted"] = True
                write_reports(self.target, reports)
            return dict(earlier)
        try:
            return self._export(data, inputs, earlier, accept=accept)
        except RerankError:
            raise
        except (OSError, RuntimeError) as exc:  # openvino raises RuntimeError where the disk is full
            raise ExportError(
                f"The export of {self.folder} to {self.target} ended early: {exc}. Nothing incomplete is left. "
                f"Free space if the disk is full, or name another output_folder."
            ) from exc

    def _describe_inputs(self, data: CalibrationData) -> dict[str, Any]:
        """Everything that the result depends on."""
        packages = ["openvino", *(["nncf"] if self.precision == "int8" else [])]
        return {
            "weights": {name: entry[-1] for name, entry in fingerprint_weights(self.folder).items()},
            "texts": data.sha256,
            "recipe": RECIPE if self.precision == "int8" else None,
            "rest_precision": self._rest_precision,
            "versions": {package: importlib.metadata.version(package) for package in packages},
        }

    def _export(
        self, data: CalibrationData, inputs: dict[str, Any], earlier: dict[str, Any], *, accept: bool
    ) -> dict[str, Any]:
        if self._elsewhere:
            artifacts.copy_config(self.folder, self.target)
        graph = self._find_graph()
        # int8 takes a copy in fp16 to work from, and a file of at most half of fp32 (all embeddings).
        needed = 0 if self._is_export(graph) else _size(graph)
        with artifacts.scratch_folder(self.target, needed) as scratch:
            exported, compared = self._write_best(graph, scratch, data)
            report = {
                **compared,
                "accepted": accept,
                "kept_earlier": False,
                "texts": data.source,
                "rest_precision": self._rest_precision,
                "made_from": fingerprint_weights(self.folder),
                "inputs": inputs,
            }
            better = self.precision == "int8" and _same_weights(earlier, inputs) and is_accepted(earlier)
            if better and not is_accepted(report) and self.result.is_file():
                return {**report, "kept_earlier": True}
            self._publish(exported, report)
        return report

    def _find_graph(self) -> Path:
        """The fp32 graph to work from; torch weights are converted where there is none yet."""
        graph = find_graph(self.folder)
        if graph is not None:
            return graph
        if not has_torch_weights(self.folder):
            raise InvalidInputError(
                f"{self.folder} has int8 weights only. Expected {TORCH_FILES[0]}, "
                f"{ONNX_FILE.as_posix()} or {OPENVINO_FILE.as_posix()} to export from."
            )
        from rerank_plugins.backends.conversion import convert_once

        size, place = count_fp32_bytes(self.folder), conversion_folder(self.folder)
        beside = self.precision == "int8" and not self._elsewhere
        artifacts.check_free_space(place, 2 * size if beside else size)
        graph = convert_once(self.folder)
        if not isinstance(graph, Path):
            raise ExportError(
                f"The conversion of {self.folder} cannot be written to {place}. "
                f"Free space there, or set RERANK_PLUGINS_CACHE to another folder."
            )
        return graph

    def _is_export(self, graph: Path) -> bool:
        """Whether ``graph`` needs no copy: fp32 IR where the target is the place that it was converted to."""
        return self.precision != "int8" and graph.suffix == ".xml" and not self._elsewhere

    def _write_best(self, graph: Path, scratch: Path, data: CalibrationData) -> tuple[Path, dict[str, Any]]:
        """The new model's folder and its comparison; of a decoder in int8 that falls below the floor, weights only."""
        exported = self._write_model(graph, scratch, data)
        compared = self._compare(exported, data.compared)
        if self.precision != "int8":
            return exported, compared
        compared["recipe"] = RECIPE
        if compared["passed"] or not is_decoder(read_config(self.folder)):
            return exported, compared
        other = scratch / "weights_only"
        artifacts.copy_config(self.folder, other)
        (other / self.file).parent.mkdir(exist_ok=True)
        write_reports(other, {"int8": {"rest_precision": self._rest_precision}})
        openvino.save_model(compress_weights(graph, scratch, progress=self._progress), other / self.file)
        again = {**self._compare(other, data.compared), "recipe": WEIGHTS_ONLY}
        nearer = again["kendall_tau"]["mean"] >= compared["kendall_tau"]["mean"]
        return (other, again) if nearer else (exported, compared)

    def _write_model(self, graph: Path, scratch: Path, data: CalibrationData) -> Path:
        """A model folder with the new file: ``scratch``, or the model's own where its graph is the export."""
        if self._is_export(graph):
            return self.folder
        artifacts.copy_config(self.folder, scratch)
        file = scratch / self.file
        file.parent.mkdir(exist_ok=True)
        if self.precision == "int8":
            # Read by the engine that compares; replaced by the whole report when it is published.
            write_reports(scratch, {"int8": {"rest_precision": self._rest_precision}})
            openvino.save_model(quantize(graph, self.encoder, data.calibration, scratch, progress=self._progress), file)
        elif graph.suffix == ".xml":
            for part in (graph, graph.with_suffix(".bin")):
                shutil.copyfile(part, file.with_suffix(part.suffix))
        else:
            openvino.save_model(read_graph(graph), file, compress_to_fp16=False)
        return scratch

    def _compare(self, exported: Path, queries: list[ComparisonQuery]) -> dict[str, Any]:
        by_torch = self.precision == "fp32" and has_torch_weights(self.folder) and torch_installed()
        reference: EngineName = "torch" if by_torch else "openvino"
        before = self._score(self.folder, reference, "fp32", queries)
        after = self._score(exported, "openvino", self.precision, queries)
        return {"compared_with": f"{reference} fp32", **compare(queries, before, after, self.precision)}

    def _score(
        self, folder: Path, engine: EngineName, precision: Precision, queries: list[ComparisonQuery]
    ) -> list[list[float]]:
        scorer = CrossEncoderScorer.from_folder(
            folder, engine=engine, precision=precision, device="cpu", max_length=self._max_length
        )
        label, console = f"scoring in {precision}, {engine}", Console(stderr=True)
        steps = track(queries, label, console=console, disable=not self._progress)
        return [scorer.score(query.pairs) for query in steps]

    def _publish(self, exported: Path, report: dict[str, Any]) -> None:
        target = self.target / self.file
        moved = exported != self.folder
        if moved:
            # Until the end there is no export: a kill in between leaves no incomplete one.
            target.unlink(missing_ok=True)
        reports = read_reports(self.target)
        current = {precision: other for precision, other in reports.items() if _same_weights(other, report["inputs"])}
        if "int8" in reports.keys() - current.keys() - {self.precision}:
            # It is of other weights, which nothing would tell without its report.
            for suffix in (".xml", ".bin"):
                (self.target / OPENVINO_INT8_FILE).with_suffix(suffix).unlink(missing_ok=True)
        write_reports(self.target, {**current, self.precision: report})
        if moved:
            if self.precision != "int8" and not self._elsewhere:
                # So that the IR is not used when the weights change.
                (self.target / CONVERTED_FROM_FILE).write_text(json.dumps(report["made_from"]))
            artifacts.publish(exported / self.file, target)


def _same_weights(report: dict[str, Any], inputs: dict[str, Any]) -> bool:
    return bool(report.get("inputs", {}).get("weights") == inputs["weights"])


def _size(graph: Path) -> int:
    """Bytes of the weights of an IR or ONNX file, those that ONNX keeps outside included."""
    if graph.suffix == ".xml":
        return graph.with_suffix(".bin").stat().st_size
    return sum(file.stat().st_size for file in (graph, *list_external_files(graph)))
