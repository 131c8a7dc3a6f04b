"""Does reranking help, on whose data, and where to cut: measured on a collection in BEIR layout."""
