"""Fitting a `rerank_plugins.Calibration` on judged queries, and measuring it on others."""
