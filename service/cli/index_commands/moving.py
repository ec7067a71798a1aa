"""Moving collections between engines: ``index copy``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from service.cli.index_commands.arguments import LOCATION, Location

if TYPE_CHECKING:
    from index.storage.precision import Storage


@click.command("copy", short_help="Copy a collection to another place or engine.")
@click.argument("source", type=LOCATION)
@click.argument("target", type=LOCATION)
@click.option(
    "--storage",
    type=click.Choice(["float32", "float16", "int8", "binary"]),
    help="How TARGET keeps vectors.  [default: as SOURCE, or float16 where the engine has no such storage]",
)
def copy(source: Location, target: Location, storage: Storage | None) -> None:
    """Copy the collection SOURCE to TARGET; each is a folder or an address such as
    postgresql://user@host/database?collection=NAME or milvus://host:19530?collection=NAME.

    SOURCE may be in use meanwhile. An interrupted copy resumes when it is started again; at the end the two are
    compared by count and checksums.
    """
    from tqdm import tqdm

    from index import Collection
    from index.engines.copying import copy_collection

    with Collection.open(source, None) as opened, tqdm(unit="document", disable=None) as bar:

        def progress(done: int, count: int) -> None:
            bar.total = count
            bar.update(max(0, done - bar.n))

        copied: Any = copy_collection(opened, str(target), storage=storage, progress=progress)
    precision = "vectors equal bit for bit" if copied.exact else "vectors in the target's precision"
    click.echo(
        f"{copied.target}: {copied.documents} documents, {copied.written} written, {copied.deleted} deleted; compared "
        f"by their checksums; {precision}"
    )
