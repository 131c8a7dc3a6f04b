"""Distil all-MiniLM-L6-v2 into static token vectors with model2vec: embed-static-en."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from model2vec.distill import distill

from minilm import minilm_folder

DIMENSIONS = 256  # 29,525 tokens x 256 in int8: 7.6 MB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    model = distill(str(minilm_folder()), pca_dims=DIMENSIONS, quantize_to="int8", device="cpu")
    model.save_pretrained(args.out)
    # model2vec notes the folder it read from; the name says more, and holds no path of this machine.
    path = args.out / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_name"] = "sentence-transformers/all-MiniLM-L6-v2"
    path.write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")
    (args.out / "model.safetensors").chmod(0o644)


if __name__ == "__main__":
    main()
