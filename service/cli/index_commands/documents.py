"""Documents of collections: ``index list``, ``get``, ``sample``, ``delete`` and ``export``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from service.cli.index_commands.arguments import FOLDER, WHERE, Location, ids_of, read_where


@click.command("list", short_help="List documents, page by page.")
@FOLDER
@WHERE
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Number of documents.")
@click.option("--after", help="Id of the last document of the page before.")
def list_(folder: Location, where: str | None, limit: int, after: str | None) -> None:
    """Print documents of FOLDER, one JSON object per line, in the order in which they were last written.

    The next page follows --after the last id.
    """
    from itertools import islice

    from index import Collection

    with Collection.open(folder, None) as collection:
        cursor = None if after is None else _stored_id(collection, after)
        _print(islice(collection.scan(where=read_where(where), after=cursor), limit))


@click.command("get", short_help="Show documents by id.")
@FOLDER
@click.argument("ids", nargs=-1, required=True)
def get(folder: Location, ids: tuple[str, ...]) -> None:
    """Print the documents of FOLDER with these IDS, one JSON object per line; of a document in chunks, its chunks."""
    from index import Collection

    with Collection.open(folder, None) as collection:
        for identifier in dict.fromkeys(ids):
            documents = [one for one in collection.get(ids_of((identifier,))) if one is not None]
            documents = documents or list(collection.scan(where={"document": {"$in": ids_of((identifier,))}}))
            if not documents:
                raise click.UsageError(f"There is no document {identifier!r} in {collection.folder}.")
            _print(documents)


@click.command("sample", short_help="Show random documents.")
@FOLDER
@WHERE
@click.option("-n", "count", type=click.IntRange(min=1), default=10, show_default=True, help="Number of documents.")
@click.option("--seed", type=int, help="The same documents again.  [default: other ones each time]")
def sample(folder: Location, where: str | None, count: int, seed: int | None) -> None:
    """Print random documents of FOLDER, or of those that match a filter, one JSON object per line."""
    import random

    from index import Collection

    with Collection.open(folder, None) as collection:
        chosen: list[Any] = []
        generator = random.Random(seed)  # noqa: S311
        for seen, document in enumerate(collection.scan(where=read_where(where))):  # a reservoir: each alike likely
            if seen < count:
                chosen.append(document)
            elif (position := generator.randrange(seen + 1)) < count:
                chosen[position] = document
        _print(chosen)


@click.command("delete", short_help="Delete documents.")
@FOLDER
@click.option("--id", "ids", multiple=True, help="Id of a document, text or number; repeat it for several.")
@WHERE
@click.option("--all", "everything", is_flag=True, help="All documents.")
def delete(folder: Location, ids: tuple[str, ...], where: str | None, everything: bool) -> None:
    """Delete documents of FOLDER by their ids, by a filter, or all of them."""
    from index import Collection

    if everything and (ids or where is not None):
        raise click.UsageError("--all is for all documents; leave --id and --where out.")
    with Collection.open(folder, None) as collection:
        if everything:
            count = collection.delete_all()
        elif where is not None or not ids:
            count = collection.delete(list(ids) or None, where=read_where(where))
        else:
            count = collection.delete(ids_of(ids))
        click.echo(f"{count} documents deleted, {collection.count()} left")


@click.command("export", short_help="Write documents to a file.")
@FOLDER
@click.argument("out", type=click.Path(path_type=Path))
@WHERE
def export(folder: Location, out: Path, where: str | None) -> None:
    """Write the documents of FOLDER, or those that match a filter, to OUT, as JSON Lines or Parquet (.parquet).

    `build` reads both; in Parquet, ids that are numbers beside others that are texts become texts. Chunks are
    written as documents of their own, with what the metadata say of them.
    """
    from encoder_tools.io.parquet_writer import write_parquet
    from encoder_tools.io.rows import write_rows
    from index import Collection

    with Collection.open(folder, None) as collection:

        def rows() -> Iterator[dict[str, Any]]:
            for one in collection.scan(where=read_where(where)):
                yield {"id": one.id, "text": one.text, **one.metadata}

        if out.suffix == ".parquet":
            write_parquet(out, rows, as_text=("id",))
        else:
            write_rows(out, rows())
        click.echo(f"wrote {out}")


def _print(documents: Iterable[Any]) -> None:
    for document in documents:
        click.echo(json.dumps(document._asdict(), ensure_ascii=False))


def _stored_id(collection: Any, identifier: str) -> str | int:
    """As a text, unless only a number of that form is stored."""
    ids = ids_of((identifier,))
    stored = [one for one, document in zip(ids, collection.get(ids), strict=True) if document is not None]
    return stored[0] if stored else identifier
