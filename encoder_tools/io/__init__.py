"""Files and folders: read without trust, written whole or not at all; rows of CSV, TSV, JSON, JSONL, text and
Parquet.
"""
