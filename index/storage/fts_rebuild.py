"""Rebuilding the full-text index for the word rules of this version, in parts; interrupted rebuilds resume.

``words`` of the table ``meta`` names the rules that all terms are of; while they are made anew it is empty,
``words_coming`` names the new rules, and ``words_indexed`` the last row that is done.
"""

from __future__ import annotations

import logging
import sqlite3
from typing import Any

from encoder_tools.errors import SaveError
from index.storage import fts as lexical
from index.storage.database import Database
from index.text.words import Words, words_by

_AT_ONCE = 2000  # texts of one transaction
_log = logging.getLogger(__name__)


def bring_up_to_date(database: Database) -> None:
    """Index all texts again, if their terms are of other rules than this version's. Other processes may help.

    :raises SaveError: if the disk is full or read-only and the terms are not whole; what is done stays done.
    """
    with database.reading() as connection:
        meta, words = _meta(connection), _words(connection)
        count = connection.execute("SELECT count(*) FROM documents").fetchone()[0]
    if meta.get("words") == words.rules:
        return
    _log.warning("%s: indexing %d texts again for the search by words; this happens once.", database.path, count)
    try:
        _index_all(database, words)
    except SaveError:
        if not meta.get("words"):
            raise
        # whole, but of another version of Unicode: letters that are new in one of them may not be found
        _log.warning("%s cannot be written to, so its terms stay those of rules %s.", database.path, meta["words"])
        return
    _log.warning("%s: indexed.", database.path)


def _index_all(database: Database, words: Words) -> None:
    with database.writing() as connection:
        meta = _meta(connection)
        if meta.get("words") == words.rules:  # another process was faster
            return
        if meta.get("words_coming") != words.rules:
            connection.execute("DROP TABLE IF EXISTS terms")
            connection.execute(lexical.TABLE)
            _set(connection, words="", words_coming=words.rules, words_indexed=-1)
    while not _index_some(database, words):
        pass


def _index_some(database: Database, words: Words) -> bool:
    """Index the next texts; whether all are."""
    with database.writing() as connection:
        meta = _meta(connection)
        if meta.get("words") == words.rules:
            return True
        if meta.get("words_coming") != words.rules:
            raise SaveError(f"Another process indexes {database.path} by other rules. Use one version of Python.")
        query = "SELECT row, text FROM documents WHERE row > ? ORDER BY row LIMIT ?"
        lines = connection.execute(query, (meta["words_indexed"], _AT_ONCE)).fetchall()
        if lines:
            lexical.add(connection, words, [row for row, _ in lines], [text for _, text in lines])
            _set(connection, words_indexed=lines[-1][0])
            return False
        connection.execute("DELETE FROM meta WHERE key IN ('words_coming', 'words_indexed')")
        _set(connection, words=words.rules)
        return True


def _words(connection: sqlite3.Connection) -> Words:
    return words_by(_meta(connection).get("stemming") or None)


def _meta(connection: sqlite3.Connection) -> dict[str, Any]:
    return dict(connection.execute("SELECT key, value FROM meta"))


def _set(connection: sqlite3.Connection, **values: Any) -> None:
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())
