"""Nearest neighbors in memory: exact over a snapshot, approximate through FAISS, tuned to a measured recall."""
