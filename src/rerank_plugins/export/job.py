"""One export of one model to one place: convert, quantize, compare, publish."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
from pathlib import Path
from typing import Any, Literal

import openvino
from rich.console import Console
from rich.progress import track

from rerank_plugins.cross_encoder import CrossEncoderScorer
from rerank_plugins.engines import EngineName, Precision, model_folder, torch_installed
from rerank_plugins.engines.conversion_place import conversion_place
from rerank_plugins.engines.fidelity_report import read_reports, write_reports
from rerank_plugins.engines.openvino import cpu_has_bf16, readable_graph
from rerank_plugins.errors import ExportError, InvalidInputError
from rerank_plugins.export import int8, saving
from rerank_plugins.export.fidelity import compare
from rerank_plugins.export.texts import Question, Texts
from rerank_plugins.pair_encoder import PairEncoder

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
        self._elsewhere = target.resolve() not in {folder.resolve(), conversion_place(folder).resolve()}

    def run(self, texts: Texts, *, accept: bool) -> dict[str, Any]:
        """The report; from an earlier export if it was of the same weights, texts and recipe."""
        inputs = self._inputs(texts)
        reports = read_reports(self.target)
        report = reports.get(self.precision, {})
        if report.get("inputs") == inputs and (self.target / self.file).is_file():
            if accept and not report["accepted"]:
                report["accepted"] = True
                write_reports(self.target, reports)
            return dict(report)
        if self._elsewhere:
            saving.copy_description(self.folder, self.target)
        with saving.scratch_folder(self.target, self._bytes_needed()) as scratch:
            made = self._make(scratch, texts)
            report = {
                **self._compare(made, texts),
                "accepted": accept,
                "texts": texts.source,
                "rest_precision": self._rest_precision(),
                "made_from": model_folder.torch_fingerprint(self.folder),
                "inputs": inputs,
            }
            self._publish(made, report)
        return report

    def _rest_precision(self) -> str | None:
        """What the parts of an int8 model that are not int8 are compared, and later computed, in."""
        if self.precision != "int8":
            return None
        return "bf16" if cpu_has_bf16() else "fp32"

    def _max_length(self) -> int:
        longest = model_folder.longest_input(self.folder)
        return MAX_LENGTH if longest is None else min(MAX_LENGTH, longest)

    def _inputs(self, texts: Texts) -> dict[str, Any]:
        """All that the result depends on."""
        packages = ["openvino", *(["nncf"] if self.precision == "int8" else [])]
        return {
            "weights": {name: entry[-1] for name, entry in model_folder.torch_fingerprint(self.folder).items()}
            or self._graph_digest(),
            "texts": texts.sha256,
            "recipe": int8.RECIPE if self.precision == "int8" else None,
            "rest_precision": self._rest_precision(),
            "versions": {package: importlib.metadata.version(package) for package in packages},
        }

    def _graph_digest(self) -> dict[str, str]:
        graph = self._graph()
        data = graph.with_suffix(".bin") if graph.suffix == ".xml" else graph
        with data.open("rb") as stream:
            return {data.name: hashlib.file_digest(stream, "sha256").hexdigest()}

    def _graph(self) -> Path:
        """The fp32 graph to work from; converts torch weights where there is none yet."""
        graph = readable_graph(self.folder)
        if graph is not None:
            return graph
        if not model_folder.has_torch_weights(self.folder):
            raise InvalidInputError(
                f"{self.folder} has int8 weights only. Expected {model_folder.TORCH_FILES[0]}, "
                f"{model_folder.ONNX_FILE.as_posix()} or {model_folder.OPENVINO_FILE.as_posix()} to export from."
            )
        from rerank_plugins.engines.conversion import converted

        kept = converted(self.folder, lambda path: path)
        if not isinstance(kept, Path):
            raise ExportError(
                f"The conversion of {self.folder} cannot be kept in {conversion_place(self.folder)}. "
                f"Make room there, or set RERANK_PLUGINS_CACHE to another folder."
            )
        return kept

    def _bytes_needed(self) -> int:
        graph = readable_graph(self.folder)
        weights = sum(file.stat().st_size for file in self.folder.glob("*.safetensors"))
        if graph is not None:
            weights = (graph.with_suffix(".bin") if graph.suffix == ".xml" else graph).stat().st_size
        new = weights if graph is None else 0
        own = int(_INT8_SHARE * weights) if self.precision == "int8" else weights if self._elsewhere else 0
        return new + own

    def _make(self, scratch: Path, texts: Texts) -> Path:
        """A model folder with the new file: ``scratch``, or the model's own where its graph is the export."""
        graph = self._graph()
        if self.precision != "int8" and graph.resolve() == (self.target / self.file).resolve():
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
            openvino.save_model(openvino.Core().read_model(graph), made, compress_to_fp16=False)
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
        weights = report["inputs"]["weights"]
        kept = {
            precision: other
            for precision, other in read_reports(self.target).items()
            if other.get("inputs", {}).get("weights") == weights
        }
        write_reports(self.target, {**kept, self.precision: report})
        if moved:
            saving.publish(made / self.file, target)
