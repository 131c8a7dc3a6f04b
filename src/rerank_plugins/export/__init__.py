"""Export a cross-encoder to OpenVINO IR in fp32, bf16 or int8, with a report of its fidelity to the model.

Needs the extra ``export``; and ``torch`` for a model that has torch weights only.
"""

from rerank_plugins.export.export import Export, ExportPrecision, export_model

__all__ = ["Export", "ExportPrecision", "export_model"]
