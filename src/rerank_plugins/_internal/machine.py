"""The processor of this machine, as results name it."""

from __future__ import annotations


def processor_name() -> str:
    """The processor's name as OpenVINO reports it."""
    import openvino

    name: str = openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    return name


def describe_processor(threads: int) -> str:
    """The processor's name, and the number of threads that compute."""
    return f"{processor_name()}, {threads} {'thread' if threads == 1 else 'threads'}"
