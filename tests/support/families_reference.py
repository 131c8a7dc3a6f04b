"""What sentence-transformers makes of a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def reference(folder: Path, **options: Any) -> Any:
    """The model in sentence-transformers, on the CPU, without an activation."""
    import torch
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(folder), device="cpu", local_files_only=True, activation_fn=torch.nn.Identity(), **options)
