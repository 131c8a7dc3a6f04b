"""One export of one model to one place: convert, quantize, compare, publish."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path
from typing import Any, Literal

import openvino
from rich.console import Console
from rich.progress import track

from rerank_plugins._internal.extras import torch_installed
from rerank_plugins._internal.loading_options import EngineName, Precision
from rerank_plugins.backends.cpu import has_bf16
from rerank_plugins.backends.openvino import find_graph, read_graph
from rerank_plugins.errors import ExportError, InvalidInputError, RerankError
from rerank_plugins.export import artifacts as saving
from rerank_plugins.export import quantization as int8
from rerank_plugins.export.calibration_data import Question, Texts
from rerank_plugins.export.fidelity import compare
from rerank_plugins.hub import folder as model_folder
from rerank_plugins.hub.cache_dirs import conversion_folder
from rerank_plugins.hub.config import read_max_input_length
from rerank_plugins.hub.fidelity_report import is_accepted, read_reports, write_reports
from rerank_plugins.hub.onnx_files import list_external_files
from rerank_plugins.hub.weights import count_fp32_bytes, fingerprint_weights
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer
from rerank_plugins.tokenization.pair_encoder import PairEncoder

ExportPrecision = Literal["fp32", "bf16", "int8"]

MAX_LENGTH = 512
"""Tokens that pairs are cut to, in calibration and in comparison."""

# Of the size of fp32 weights: a copy in fp16 to work from, and a file that is half of it at most (all embeddings).
_INT8_SHARE = 1.0


class Job:
    """Exports ``folder`` to ``target``; the caller sees to it that nobody else does."""

    def __init__(self, folder: Path, target: Path, precision: ExportPrecision, *, progress: bool) -> None:
        self.folder, self.target, self.precision = folder, target, precision
        self.file = model_folder.OPENVINO_INT8_FILE if precision == "int8" else model_folder.OPENVINO_FILE
        self.encoder = PairEncoder.from_folder(folder, self._max_length())
        self._progress = progress
        self._elsewhere = target.resolve() not in {folder.resolve(), conversion_folder(folder).resolve()}

    @property
    def result(self) -> Path:
        """The file that the export makes, or that is already what it would make."""
        graph = find_graph(self.folder)
        return graph if graph is not None and self._is_the_export(graph) else self.target / self.file

    def run(self, texts: Texts, *, accept: bool) -> dict[str, Any]:
        """The report; from an earlier export if it was of the same weights, texts and recipe.

        An int8 that falls below the floor does not replace one of the same weights that is the default:
        ``kept_earlier`` in the report says so.
        """
        inputs = self._inputs(texts)
        reports = read_reports(self.target)
        earlier = reports.get(self.precision, {})
        if earlier.get("inputs") == inputs and self.result.is_file():
            if accept and not earlier["accepted"]:
                earlier["accepted"] = True
                write_reports(self.target, reports)
            return dict(earlier)
        try:
            return self._anew(texts, inputs, earlier, accept=accept)
        except RerankError:
            raise
        except (OSError, RuntimeError) as exc:  # openvino reports a full disk as RuntimeError
            raise ExportError(
                f"The export of {self.folder} to {self.target} ended early: {exc}. Nothing half-made is left. "
                f"Make room if the disk is full, or name another folder with out."
            ) from exc

    def _anew(self, texts: Texts, inputs: dict[str, Any], earlier: dict[str, Any], *, accept: bool) -> dict[str, Any]:
        if self._elsewhere:
            saving.copy_description(self.folder, self.target)
        graph = self._graph()
        with saving.scratch_folder(self.target, self._own_bytes(_size(graph), graph)) as scratch:
            made = self._make(graph, scratch, texts)
            report = {
                **self._compare(made, texts),
                "accepted": accept,
                "kept_earlier": False,
                "texts": texts.source,
                "rest_precision": self._rest_precision(),
                "made_from": fingerprint_weights(self.folder),
                "inputs": inputs,
            }
            if not is_accepted(report) and self._has_better(earlier, inputs):
                return {**report, "kept_earlier": True}
            self._publish(made, report)
        return report

    def _has_better(self, earlier: dict[str, Any], inputs: dict[str, Any]) -> bool:
        same = _same_weights(earlier, inputs)
        return self.precision == "int8" and same and is_accepted(earlier) and self.result.is_file()

    def _rest_precision(self) -> str | None:
        """What the parts of an int8 model that are not int8 are compared, and later computed, in."""
        if self.precision != "int8":
            return None
        return "bf16" if has_bf16() else "fp32"

    def _max_length(self) -> int:
        longest = read_max_input_length(self.folder)
        return MAX_LENGTH if longest is None else min(MAX_LENGTH, longest)

    def _inputs(self, texts: Texts) -> dict[str, Any]:
        """All that the result depends on."""
        packages = ["openvino", *(["nncf"] if self.precision == "int8" else [])]
        return {
            "weights": {name: entry[-1] for name, entry in fingerprint_weights(self.folder).items()},
            "texts": texts.sha256,
            "recipe": int8.RECIPE if self.precision == "int8" else None,
            "rest_precision": self._rest_precision(),
            "versions": {package: importlib.metadata.version(package) for package in packages},
        }

    def _graph(self) -> Path:
        """The fp32 graph to work from; converts torch weights where there is none yet."""
        graph = find_graph(self.folder)
        if graph is not None:
            return graph
        if not model_folder.has_torch_weights(self.folder):
            raise InvalidInputError(
                f"{self.folder} has int8 weights only. Expected {model_folder.TORCH_FILES[0]}, "
                f"{model_folder.ONNX_FILE.as_posix()} or {model_folder.OPENVINO_FILE.as_posix()} to export from."
            )
        from rerank_plugins.backends.conversion import convert_once

        size, place = count_fp32_bytes(self.folder), conversion_folder(self.folder)
        saving.check_room(place, size + (0 if self._elsewhere else self._own_bytes(size, None)))
        kept = convert_once(self.folder)
        if not isinstance(kept, Path):
            raise ExportError(
                f"The conversion of {self.folder} cannot be kept in {place}. "
                f"Make room there, or set RERANK_PLUGINS_CACHE to another folder."
            )
        return kept

    def _is_the_export(self, graph: Path) -> bool:
        """Whether ``graph`` needs no copy: IR in full, asked for where it is or would be looked for."""
        own = not self._elsewhere or graph.resolve() == (self.target / self.file).resolve()
        return self.precision != "int8" and graph.suffix == ".xml" and own

    def _own_bytes(self, size: int, graph: Path | None) -> int:
        """What the export takes beside a graph of ``size`` bytes; ``graph`` None: one that is yet to be converted."""
        if self.precision == "int8":
            return int(_INT8_SHARE * size)
        own = not self._elsewhere if graph is None else self._is_the_export(graph)
        return 0 if own else size

    def _make(self, graph: Path, scratch: Path, texts: Texts) -> Path:
        """A model folder with the new file: ``scratch``, or the model's own where its graph is the export."""
        if self._is_the_export(graph):
            return self.folder
        saving.copy_description(self.folder, scratch)
        made = scratch / self.file
        made.parent.mkdir(exist_ok=True)
        if self.precision == "int8":
            # Read by the engine that compares; replaced by the whole report when it is published.
            write_reports(scratch, {"int8": {"rest_precision": self._rest_precision()}})
            model = int8.quantize(graph, self.encoder, texts.calibration, scratch, progress=self._progress)
            openvino.save_model(model, made)
        elif graph.suffix == ".xml":
            for file in (graph, graph.with_suffix(".bin")):
                shutil.copyfile(file, made.with_suffix(file.suffix))
        else:
            openvino.save_model(read_graph(graph), made, compress_to_fp16=False)
        return scratch

    def _compare(self, made: Path, texts: Texts) -> dict[str, Any]:
        by_torch = self.precision == "fp32" and model_folder.has_torch_weights(self.folder) and torch_installed()
        reference: EngineName = "torch" if by_torch else "openvino"
        before = self._logits(self.folder, reference, "fp32", texts.compared)
        after = self._logits(made, "openvino", self.precision, texts.compared)
        return {"compared_with": f"{reference} fp32", **compare(texts.compared, before, after, self.precision)}

    def _logits(
        self, folder: Path, engine: EngineName, precision: Precision, questions: list[Question]
    ) -> list[list[float]]:
        scorer = CrossEncoderScorer.from_folder(
            folder, engine=engine, precision=precision, device="cpu", max_length=self._max_length()
        )
        label = f"scoring in {precision}, {engine}"
        console = Console(stderr=True)
        steps = track(questions, label, console=console, disable=not self._progress)
        return [scorer.score(question.pairs) for question in steps]

    def _publish(self, made: Path, report: dict[str, Any]) -> None:
        target = self.target / self.file
        moved = made != self.folder
        if moved:
            # From here to the end the export is not there; a kill in between leaves no half of it.
            target.unlink(missing_ok=True)
        reports = read_reports(self.target)
        kept = {precision: other for precision, other in reports.items() if _same_weights(other, report["inputs"])}
        if "int8" in reports.keys() - kept.keys() - {self.precision}:
            # Of other weights, and ours: without its report nothing would tell.
            for suffix in (".xml", ".bin"):
                (self.target / model_folder.OPENVINO_INT8_FILE).with_suffix(suffix).unlink(missing_ok=True)
        write_reports(self.target, {**kept, self.precision: report})
        if moved:
            if self.precision != "int8" and not self._elsewhere:
                saving.note_source(self.target, report["made_from"])
            saving.publish(made / self.file, target)


def _same_weights(report: dict[str, Any], inputs: dict[str, Any]) -> bool:
    return bool(report.get("inputs", {}).get("weights") == inputs["weights"])


def _size(graph: Path) -> int:
    """Bytes of the weights behind an IR or ONNX file; those that ONNX keeps outside count too."""
    if graph.suffix == ".xml":
        return graph.with_suffix(".bin").stat().st_size
    return sum(file.stat().st_size for file in (graph, *list_external_files(graph)))
