"""Vectors of very many texts: files of rows in, checked shards of Parquet out, in processes or on a cluster."""

from encoder_tools.bulk.embed_files import Embedded, embed_files
from encoder_tools.bulk.vector_shards import VectorShards

__all__ = ["Embedded", "VectorShards", "embed_files"]
