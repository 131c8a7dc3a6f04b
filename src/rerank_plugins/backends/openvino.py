"""The OpenVINO engine, for CPUs: runs the IR or ONNX of a model folder, or converts its safetensors once."""

from __future__ import annotations

import functools
import logging
import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino

from rerank_plugins._internal.loading_options import Precision
from rerank_plugins.backends import cpu
from rerank_plugins.backends.base import CPU_PADDING, Logits, Tokens, flatten_logits
from rerank_plugins.backends.compiled_cache import compile_cached
from rerank_plugins.errors import InvalidInputError, ModelLoadError, ScoringError
from rerank_plugins.hub.cache_dirs import conversion_folder
from rerank_plugins.hub.fidelity_report import find_report, read_reports
from rerank_plugins.hub.folder import (
    ONNX_FILE,
    ONNX_QUANTIZED_FILE,
    OPENVINO_FILE,
    OPENVINO_INT8_FILE,
    TORCH_FILES,
    find_file,
    find_onnx,
    has_torch_weights,
    is_complete,
)
from rerank_plugins.hub.onnx_files import link_external_files
from rerank_plugins.hub.weights import conversion_is_stale

_log = logging.getLogger("rerank_plugins")

# How many kernels of each kind OpenVINO keeps, the most recently used ones; its own default is 5,000. Measured on 2
# cores with AVX512, the bundled model, 67 shapes and 25 lengths of queries in 800 batches: 530 MB, with the default 650
# and more. With 100 kernels it was 460, and 50 passages took .55 s instead of .51: their seven shapes did not all stay.
_KERNELS = 200


@functools.cache
def _core() -> openvino.Core:
    return openvino.Core()


class OpenVINOEngine:
    """One compiled model and one infer request, behind a lock."""

    name: Literal["openvino"] = "openvino"
    device = "cpu"
    # Measured: budgets of 512 to 2,048 padded tokens are faster than batches of 32 rows, because the working set stays
    # in the processor's cache (docs/performance.md).
    token_budget = 2048
    # Every new shape costs OpenVINO new kernels (in int8, MiniLM's shape: 2 to 4 MB and some 10 ms), and AMX multiplies
    # tiles of 16 rows. Measured on 2 cores with AMX, new texts in every call: MiniLM's shape 1.36x faster in int8 and
    # 1.26x in bf16 than without, 1.02x in fp32; 32 is no faster. The first bundled model, 132 queries of 50 passages:
    # 1.41x, and the same nDCG@10.
    pad_to_multiple_of = 16
    few_shapes = True
    max_padding = CPU_PADDING

    def __init__(
        self, folder: Path, precision: Precision, threads: int | None = None, label: int | None = None
    ) -> None:
        """Load the model; ``precision`` is fp32, bf16 or int8. May convert it, see `conversion.convert_once`.

        With ``threads`` None OpenVINO chooses: one a core of the process's affinity. It does not see the quota of a
        container; where that is smaller, the quota is used. ``label`` as in `flatten_logits`.
        """
        self.precision = precision
        self._label = label
        # Measured on 2 cores with AVX2, MiniLM's shape, fp32: 5,900 to 6,600 padded tokens a second in batches of 200
        # to 2,000, and 4,500 in one of 48. In int8 a score of the bundled reranker moved by .005 with its batch.
        self.shared_token_budget = 512 if precision == "fp32" else 0
        graph = _find_or_convert(folder, precision)
        config = _compile_config(folder, precision, threads)
        try:
            compiled = _compile(graph, config)
            self._request = compiled.create_infer_request()
        except RuntimeError as exc:
            raise ModelLoadError(f"OpenVINO cannot compile the model in {folder}: {_last_line(exc)}") from exc
        self.inputs = _check_inputs(compiled, folder)
        self.threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        self._lock = threading.Lock()

    def logits(self, input_ids: Tokens, attention_mask: Tokens, token_type_ids: Tokens | None) -> Logits:
        """See `Engine.logits`; ``token_type_ids`` is needed only where the model has that input."""
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        if "token_type_ids" in self.inputs:
            feed["token_type_ids"] = np.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        try:
            with self._lock:
                self._request.infer(feed)
                output = np.array(self._request.get_output_tensor(0).data, dtype=np.float32)
        except RuntimeError as exc:
            raise ScoringError(
                f"OpenVINO cannot compute {input_ids.shape[0]} rows of {input_ids.shape[1]} tokens: {_last_line(exc)} "
                f"If the model reads shorter inputs, lower max_length."
            ) from exc
        return flatten_logits(output, len(input_ids), self._label)


def _compile_config(folder: Path, precision: Precision, threads: int | None) -> dict[str, Any]:
    in_bf16 = precision == "bf16" or (precision == "int8" and rest_in_bf16(folder))
    config: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "bf16" if in_bf16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "CPU_RUNTIME_CACHE_CAPACITY": _KERNELS,
    }
    if precision != "int8":
        # The weights may be int8 all the same. Without this OpenVINO would round activations to int8 too.
        config |= {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0, "LP_TRANSFORMS_MODE": False}
    elif not cpu.int8_is_exact():
        # The same rounded numbers, multiplied in fp32: here int8 products are clipped, and no faster.
        config |= {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0, "LP_TRANSFORMS_MODE": False}
    if precision == "int8" and in_bf16:
        # Fused attention of OpenVINO 2026.4 gives wrong numbers here for rows as long as a head is wide: on a Xeon
        # with AMX logits were off by 2 to 8 at heads of 16 and 32, and right without it, which cost 0 to 6 %.
        config["SNIPPETS_MODE"] = "DISABLE"
    usable = cpu.count_usable_cpus()
    if threads is not None or usable < cpu.count_affinity_cpus():
        config["INFERENCE_NUM_THREADS"] = threads or usable
    return config


def _compile(graph: Any, config: dict[str, Any]) -> Any:
    """Compile ``graph``: a file, or a model that could not be saved to one."""
    if isinstance(graph, Path):
        compiled = compile_cached(_core(), graph, config)
        if compiled is not None:
            return compiled
        graph = read_graph(graph)
    return _core().compile_model(graph, "CPU", config)


def _find_or_convert(folder: Path, precision: Precision) -> Any:
    """The file to compile, or the model itself if it was converted and could not be saved."""
    if precision == "int8":
        return find_int8_graph(folder)
    graph = find_graph(folder)
    if graph is not None:
        if graph.name == ONNX_QUANTIZED_FILE.name:
            _log.warning(
                "%s is all that can be run of this model. It is quantized: its scores differ from the model's own.",
                graph,
            )
        return graph
    if has_torch_weights(folder):
        from rerank_plugins.backends.conversion import convert_once

        return convert_once(folder)
    raise InvalidInputError(
        f"precision={precision!r} needs {OPENVINO_FILE.as_posix()}, {ONNX_FILE.as_posix()} or {TORCH_FILES[0]}, and "
        f"{folder} has none of them. Use precision='int8' or 'auto' if it has the int8 file."
    )


def find_graph(folder: Path) -> Path | None:
    """The unquantized IR or ONNX file of ``folder``, or of its conversion; None if there is none."""
    for place in dict.fromkeys((folder, conversion_folder(folder))):
        graph = place / OPENVINO_FILE
        if is_complete(graph) and not conversion_is_stale(folder, place):
            return graph
    return find_file(folder, Path(OPENVINO_FILE.name)) or find_onnx(folder)


def find_int8_graph(folder: Path) -> Path:
    """The quantized IR of ``folder``: our export of it, or its own."""
    export = find_report(folder, "int8")
    path = find_file(export[0] if export else folder, OPENVINO_INT8_FILE)
    if path is None:
        raise InvalidInputError(
            f"precision='int8' needs {OPENVINO_INT8_FILE.as_posix()} and its .bin, which {folder} has "
            f"not. Use precision='bf16' or 'fp32', or make one: rerank-plugins export {folder} --precision int8"
        )
    if export is None and "int8" in read_reports(folder):
        raise ModelLoadError(
            f"{path} was made from other weights than {folder} has now. "
            f"Make it again: rerank-plugins export {folder} --precision int8"
        )
    return path


def rest_in_bf16(folder: Path) -> bool:
    """Whether the parts of an int8 export that are not int8 run in bf16: only if its report was made that way."""
    export = find_report(folder, "int8")
    return export is not None and export[1].get("rest_precision") == "bf16" and cpu.has_bf16()


def read_graph(path: Path) -> Any:
    """The IR or ONNX file ``path`` as an OpenVINO model, not compiled; `ModelLoadError` if it cannot be read."""
    try:
        if path.suffix == ".xml":
            return _core().read_model(path)
        with link_external_files(path) as file:
            return _core().read_model(file)
    except RuntimeError as exc:
        raise ModelLoadError(
            f"OpenVINO cannot read {path}: {_last_line(exc)} The file, or one with its weights, is missing or "
            f"damaged: delete it and download or convert the model again."
        ) from exc


def _check_inputs(model: Any, folder: Path) -> frozenset[str]:
    names = frozenset(name for port in model.inputs for name in port.get_names())
    known = {"input_ids", "attention_mask", "token_type_ids"}
    if not {"input_ids", "attention_mask"} <= names or len(model.inputs) > len(names & known):
        raise ModelLoadError(
            f"The model in {folder} takes the inputs {sorted(names)}, expected input_ids, attention_mask and "
            f"perhaps token_type_ids. Export it as a sequence classifier."
        )
    return names & known


def _last_line(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    # OpenVINO's messages begin with a place in its source and end with the reason.
    return lines[-1] if lines else type(exc).__name__
