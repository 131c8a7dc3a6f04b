"""The CPU engine: OpenVINO IR or ONNX from a model folder, or a Hugging Face folder converted once."""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino

from rerank_plugins._internal.loading_options import Precision
from rerank_plugins.backends.auto import CPU_PADDING, Logits, Tokens, one_logit_a_row
from rerank_plugins.backends.bf16 import bf16_is_right
from rerank_plugins.backends.compiled_cache import compile_kept
from rerank_plugins.backends.cpu import affinity, usable_cpus
from rerank_plugins.backends.int8 import int8_is_exact
from rerank_plugins.errors import InvalidInputError, ModelLoadError, ScoringError
from rerank_plugins.hub import folder as model_folder
from rerank_plugins.hub.cache_dirs import conversion_place
from rerank_plugins.hub.fidelity_report import read_reports, report_of
from rerank_plugins.hub.onnx_files import beside_each_other

# Measured (research of the house, performance.md): budgets of 512 to 2,048 slots beat batches of 32
# because the working set stays in cache; benchmarks/ measures it again.
TOKEN_BUDGET = 2048

# Every new shape costs OpenVINO a new set of kernels (in int8, MiniLM's shape: 2 to 4 MB and some 10 ms), and AMX
# multiplies tiles of 16 rows. Measured on 2 cores with AMX, texts anew in every call: MiniLM's shape 1.36x faster in
# int8 and 1.26x in bf16 than without, 1.02x in fp32; 32 is no faster. The first bundled model, 132 queries of 50
# passages: 1.41x, and the same nDCG@10.
LENGTH_MULTIPLE = 16


# Measured on 2 cores with AVX2, MiniLM's shape, fp32: 5,900 to 6,600 slots a second in batches of 200 to 2,000, and
# 4,500 in one of 48. In int8 a score of the model in the box moved by .005 with the batch it was in.
SHARED_SLOTS = 512


# How many kernels of each kind OpenVINO keeps, those used last; its own default is 5,000. Measured on 2 cores with
# AVX512, the bundled model, 67 shapes and 25 lengths of queries in 800 batches: 530 MB, with the default 650 and more.
# With 100 kernels it was 460, and 50 passages took .55 s instead of .51: their seven shapes did not all stay.
_KERNELS = 200


@functools.cache
def _core() -> openvino.Core:
    return openvino.Core()


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 natively, and OpenVINO rightly on it."""
    return lists_bf16() and bf16_is_right()


def why_no_bf16() -> str:
    """What is said where `cpu_has_bf16` is false."""
    if lists_bf16():
        return "OpenVINO multiplies bf16 wrongly on this processor"
    return "this processor has no bf16 (AVX512_BF16 or AMX)"


def lists_bf16() -> bool:
    """Whether the processor has instructions for bfloat16 (AVX512_BF16 or AMX)."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVINOEngine:
    """One compiled model and one infer request, behind a lock."""

    name: Literal["openvino"] = "openvino"
    device = "cpu"
    token_budget = TOKEN_BUDGET
    length_multiple = LENGTH_MULTIPLE
    few_shapes = True
    max_padding = CPU_PADDING

    def __init__(self, folder: Path, precision: Precision, threads: int | None = None) -> None:
        """``precision``: fp32, bf16 or int8. May convert; see `conversion.converted`.

        ``threads`` None: what OpenVINO chooses among the processors of the process's affinity, one a core; fewer where
        the container's quota is smaller, which OpenVINO does not see.
        """
        self.precision = precision
        self.shared_slots = SHARED_SLOTS if precision == "fp32" else 0
        graph = _graph(folder, precision)
        hint = "bf16" if precision == "bf16" or (precision == "int8" and rest_in_bf16(folder)) else "f32"
        config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
            "CPU_RUNTIME_CACHE_CAPACITY": _KERNELS,
        }
        if precision != "int8":
            # Its weights may be int8 all the same, and OpenVINO would round what they are multiplied with to int8 too.
            config |= {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0, "LP_TRANSFORMS_MODE": False}
        elif not int8_is_exact():
            # The same rounded numbers, multiplied in fp32: here int8 products are clipped, and no faster.
            config["LP_TRANSFORMS_MODE"] = False
        if precision == "int8" and hint == "bf16":
            # Fused attention of OpenVINO 2026.4 gives wrong numbers here for rows as long as a head is wide: on a Xeon
            # with AMX logits were off by 2 to 8 at heads of 16 and 32, and right without it, which cost 0 to 6 %.
            config["SNIPPETS_MODE"] = "DISABLE"
        if threads is not None or usable_cpus() < affinity():
            config["INFERENCE_NUM_THREADS"] = threads or usable_cpus()
        try:
            compiled = _compiled(graph, config)
            self._request = compiled.create_infer_request()
        except RuntimeError as exc:
            raise ModelLoadError(f"OpenVINO cannot compile the model in {folder}: {_first_line(exc)}") from exc
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
                f"OpenVINO cannot compute {input_ids.shape[0]} rows of {input_ids.shape[1]} tokens: {_first_line(exc)} "
                f"If the model reads shorter inputs, lower max_length."
            ) from exc
        return one_logit_a_row(output, len(input_ids))


def _compiled(graph: Any, config: dict[str, Any]) -> Any:
    """``graph`` is a file, or a model that could not be kept in one."""
    if isinstance(graph, Path):
        kept = compile_kept(_core(), graph, config)
        if kept is not None:
            return kept
        graph = read_graph(graph)
    return _core().compile_model(graph, "CPU", config)


def _graph(folder: Path, precision: Precision) -> Any:
    """The file to compile; the model itself where it was converted and cannot be kept."""
    if precision == "int8":
        return int8_file(folder)
    graph = readable_graph(folder)
    if graph is not None:
        return graph
    if model_folder.has_torch_weights(folder):
        from rerank_plugins.backends.conversion import converted

        return converted(folder)
    raise InvalidInputError(
        f"precision={precision!r} needs {model_folder.OPENVINO_FILE.as_posix()}, {model_folder.ONNX_FILE.as_posix()} "
        f"or {model_folder.TORCH_FILES[0]}, and {folder} has none of them. "
        f"Use precision='int8' or 'auto' if it has the int8 file."
    )


def readable_graph(folder: Path) -> Path | None:
    """The unquantized IR or ONNX file of ``folder``, also where we converted it; None if there is none."""
    for place in dict.fromkeys((folder, conversion_place(folder))):
        graph = place / model_folder.OPENVINO_FILE
        if model_folder.is_whole(graph) and not model_folder.conversion_is_stale(folder, place):
            return graph
    in_root = Path(model_folder.OPENVINO_FILE.name)
    return model_folder.find_file(folder, in_root) or model_folder.find_file(folder, model_folder.ONNX_FILE)


def int8_file(folder: Path) -> Path:
    """The quantized IR that is loaded for ``folder``: an export of ours, or its own."""
    exported = report_of(folder, "int8")
    path = model_folder.find_file(exported[0] if exported else folder, model_folder.OPENVINO_INT8_FILE)
    if path is None:
        raise InvalidInputError(
            f"precision='int8' needs {model_folder.OPENVINO_INT8_FILE.as_posix()} and its .bin, which {folder} has "
            f"not. Use precision='bf16' or 'fp32', or make one: rerank-plugins export {folder} --precision int8"
        )
    if exported is None and "int8" in read_reports(folder):
        raise ModelLoadError(
            f"{path} was made from other weights than {folder} has now. "
            f"Make it again: rerank-plugins export {folder} --precision int8"
        )
    return path


def rest_in_bf16(folder: Path) -> bool:
    """Whether what is not int8 is computed in bf16: only if the file was compared with its model that way."""
    exported = report_of(folder, "int8")
    return exported is not None and exported[1].get("rest_precision") == "bf16" and cpu_has_bf16()


def read_graph(path: Path) -> Any:
    """The IR or ONNX file ``path`` as OpenVINO has it, not compiled; `ModelLoadError` if it cannot be read."""
    try:
        if path.suffix == ".xml":
            return _core().read_model(path)
        with beside_each_other(path) as file:
            return _core().read_model(file)
    except RuntimeError as exc:
        raise ModelLoadError(
            f"OpenVINO cannot read {path}: {_first_line(exc)} The file, or one with its weights, is missing or "
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


def _first_line(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    # OpenVINO puts the place in its source first and the reason last.
    return lines[-1] if lines else type(exc).__name__
