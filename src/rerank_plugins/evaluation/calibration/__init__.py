"""Fits a `rerank_plugins.Calibration` on judged queries, and measures it on others."""
