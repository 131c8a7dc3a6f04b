"""Scoring for many callers with one model: requests, their scheduler, batches, and the score cache."""
