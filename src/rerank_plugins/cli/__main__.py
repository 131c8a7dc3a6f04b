"""`python -m rerank_plugins.cli`."""

from __future__ import annotations

from rerank_plugins.cli import main

main()
