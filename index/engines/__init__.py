"""Engines that hold collections elsewhere than in a folder: the verbs are those of :class:`index.Collection`.

The address decides: ``Collection.open("postgresql://user@host/database?collection=faq", encoder)`` (extra
``postgres``), ``milvus://host:19530?collection=faq`` or ``https://host?collection=faq&token=...`` (extra ``milvus``).
Results, errors and fingerprints are the same; what an engine cannot do is an error with the reason.
"""

from __future__ import annotations

from encoder_tools.extras import require_extra
from index.collection.engine import EngineType, register


def _postgres() -> EngineType:
    require_extra("postgres", "psycopg", "psycopg_pool", "pgvector")
    from index.engines.postgres.pg_engine import PostgresType

    return PostgresType()


for _scheme in ("postgresql", "postgres"):
    register(_scheme, _postgres)


def _milvus() -> EngineType:
    require_extra("milvus", "pymilvus")
    from index.engines.milvus.mv_engine import MilvusType

    return MilvusType()


for _scheme in ("milvus", "https"):
    register(_scheme, _milvus)
