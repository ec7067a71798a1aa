"""Labelled texts in files: which column is what, and which rows are rejected."""
