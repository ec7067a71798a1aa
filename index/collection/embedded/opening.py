"""Opening a collection: what is checked before it is searched."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError
from encoder_tools.protocols import TextEncoder
from index.ann.index_types import INDEX_TYPES, IndexType
from index.collection.embedded.opened import OpenState
from index.collection.encoding import Model
from index.storage import schema
from index.storage.database import Database
from index.storage.fts_rebuild import bring_up_to_date
from index.storage.network_disks import warn_of_network_disk
from index.validation import check_score

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenOptions:
    """How a collection is opened; see :meth:`index.Collection.open`."""

    busy_timeout: float
    allow_sibling: bool
    index: IndexType
    recall: float
    remember_queries: bool


def open_state(folder: Path, encoder: TextEncoder | None, options: OpenOptions) -> OpenState:
    """Open a collection and load its vectors; its errors are those of :meth:`index.Collection.open`."""
    index = options.index
    if index not in INDEX_TYPES or not 0 < check_score(options.recall, "recall") <= 1:
        expected = ", ".join(INDEX_TYPES)
        raise InputError(f"index is {index!r} and recall {options.recall!r}, expected one of {expected}, and a share.")
    if not folder.is_dir():
        raise FileMissingError(f"{folder} is not a folder. Make the collection with Collection.create.")
    warn_of_network_disk(folder)
    with ExitStack() as on_error:
        database = Database(folder, busy_timeout=options.busy_timeout)
        on_error.callback(database.close)
        about = schema.read_about(database)
        bring_up_to_date(database)
        if index == "ivf" and not about.held:
            raise InputError(f"index is 'ivf', which holds all vectors, but {folder} keeps them as {about.storage}.")
        model = Model.checked(folder, about, encoder, allow_sibling=options.allow_sibling)
        opened = OpenState(
            folder, database, model, index=index, recall=options.recall, remember_queries=options.remember_queries
        )
        opened.follow()
        try:
            opened.check_manifest()
        except FileCorruptError as error:  # the documents that are left can still be served and backed up
            _log.error("%s", error)
        on_error.pop_all()
    return opened
