"""``encoder-tools index``: collections of texts, built, searched and looked after."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

_FOLDER = click.argument("folder", type=click.Path(path_type=Path))
_MODEL = click.option("--model", default="default", show_default=True, help='Exported model folder, or "default".')
_SHOWN, _BEFORE = 160, 40  # characters of a text that are printed, at most, and before the first word that was found
_WHERE = click.option("--where", help='A filter, as JSON: \'{"lang": "en"}\'.')


@click.group("index")
def command() -> None:
    """Collections of texts: found by meaning, by words, or by both."""


def _reads_files(function: Callable[..., None]) -> Callable[..., None]:
    """The arguments of the commands that store what is in files."""
    options = [
        _FOLDER,
        click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True),
        _MODEL,
        click.option("--text", default="text", show_default=True, help="Column of the texts."),
        click.option("--id", "identifier", default="id", show_default=True, help="Column of the ids; else file:row."),
        click.option(
            "--keep", multiple=True, help="Column to keep as metadata, once for each; all others if not given."
        ),
        click.option("--split", default="train", show_default=True, help="Of a folder of several."),
        click.option("--encoding", help="Of text files.  [default: UTF-8, or UTF-16 where it is told]"),
        click.option("--delimiter", help="Between the cells of a CSV.  [default: told by its first rows]"),
        click.option(
            "--chunk-tokens",
            type=click.IntRange(min=0),
            help="Cut texts into pieces of so many tokens; 0 leaves them whole.  [default: 256 for text files, else 0]",
        ),
        click.option(
            "--overlap", default=32, show_default=True, help="Tokens that a piece shares with the one before."
        ),
        click.option("--main-text", is_flag=True, help="Leave out navigation, footers and cookie banners of HTML."),
        click.option("--sync", is_flag=True, help="Delete documents that are in none of FILES."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@command.command("build")
@_reads_files
@click.option(
    "--stemming", metavar="LANGUAGE", help="Find words by their stem: english, german, ... (extra: stemming)."
)
def build(folder: Path, files: tuple[Path, ...], model: str, stemming: str | None, **how: Any) -> None:
    """Add what is in FILES to the collection FOLDER, which is made if it is not there.

    FILES are CSV, TSV, JSON Lines, JSON arrays (each also .gz), Parquet, folders of datasets, text files (.txt, .rst,
    .md, .html) and folders of them, whose ids are their paths. What is stored already is not encoded again: an
    interrupted run resumes when it is started again. Rows that cannot be stored go to FOLDER.rejected.jsonl with the
    reason, and the exit code is 3.
    """
    from encoder_tools import OnnxEncoder
    from index import Collection

    encoder = OnnxEncoder(model)
    opened = Collection.open(folder, encoder) if (folder / "collection.db").exists() else None
    if opened is not None and stemming is not None:
        opened.close()
        raise click.UsageError(f"--stemming is chosen when a collection is made, and {folder} is there.")
    with opened or Collection.create(folder, encoder, stemming=stemming) as collection:
        _add_all(collection, folder, files, **how)


@command.command("add")
@_reads_files
def add(folder: Path, files: tuple[Path, ...], model: str, **how: Any) -> None:
    """Add what is in FILES to the collection FOLDER, which must be there; else as `build`."""
    from encoder_tools import OnnxEncoder
    from index import Collection

    with Collection.open(folder, OnnxEncoder(model)) as collection:
        _add_all(collection, folder, files, **how)


def _add_all(
    collection: Any,
    folder: Path,
    files: tuple[Path, ...],
    *,
    text: str,
    identifier: str,
    keep: tuple[str, ...],
    split: str,
    encoding: str | None,
    delimiter: str | None,
    **how: Any,
) -> None:
    from encoder_tools.io.columns import DocumentColumns
    from encoder_tools.io.rows import Reading
    from index.ingest.add_files import AddOptions, add_files

    reading = Reading(split, encoding, delimiter)
    options = AddOptions(DocumentColumns(text, identifier, keep or None), reading, **how)
    add_files(collection, folder, files, options, click.echo, _with_bar)
    click.echo(f"{folder}: {collection.count()} documents")


def _with_bar(name: str, expected: int | None, parts: Iterable[Any]) -> Iterator[Any]:
    from tqdm import tqdm

    with tqdm(unit="row", desc=name, total=expected, disable=None) as bar:
        for part in parts:
            bar.update(sum(part))
            yield part


@command.command("search")
@_FOLDER
@click.argument("query")
@_MODEL
@click.option("-k", default=10, show_default=True, help="How many.")
@click.option("--mode", type=click.Choice(["dense", "lexical", "hybrid"]), default="dense", show_default=True)
@_WHERE
@click.option("--allow-sibling", is_flag=True, help="Take a model of the same space.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def search(
    folder: Path, query: str, model: str, k: int, mode: Any, where: str | None, allow_sibling: bool, as_json: bool
) -> None:
    """Find texts in FOLDER."""
    from encoder_tools import OnnxEncoder
    from index import Collection

    encoder = None if mode == "lexical" else OnnxEncoder(model)
    with Collection.open(folder, encoder, allow_sibling=allow_sibling) as collection:
        for hit in collection.search(query, k, mode=mode, where=_filter(where), highlight=True):
            if as_json:
                click.echo(json.dumps(hit._asdict(), ensure_ascii=False))
            else:
                click.echo(f"{hit.score:.4f}  {hit.id}  {_marked(hit.text, hit.highlights)}")


@command.command("delete")
@_FOLDER
@click.option("--id", "ids", multiple=True, help="Of a document, once for each; a number is meant where one is stored.")
@_WHERE
@click.option("--all", "everything", is_flag=True, help="All documents.")
def delete(folder: Path, ids: tuple[str, ...], where: str | None, everything: bool) -> None:
    """Take documents out of FOLDER, by their ids, by a filter, or all of them."""
    from index import Collection

    if everything and (ids or where is not None):
        raise click.UsageError("--all is for all documents; leave --id and --where out.")
    with Collection.open(folder, None) as collection:
        if everything:
            gone = collection.delete_all()
        elif where is not None or not ids:
            gone = collection.delete(list(ids) or None, where=_filter(where))
        else:
            numbers = [
                int(name) for name in ids if name.removeprefix("-").isascii() and name.removeprefix("-").isdigit()
            ]
            gone = collection.delete([*dict.fromkeys(ids), *dict.fromkeys(numbers)])
        click.echo(f"{gone} documents deleted, {collection.count()} left")


@command.command("stats")
@_FOLDER
def stats(folder: Path) -> None:
    """Say what FOLDER holds, and how it is searched."""
    from index import Collection

    with Collection.open(folder, None) as collection:
        about, figures = collection.about, collection.stats()
    lines = {
        "documents": figures.documents,
        "width": figures.dim,
        "model": about.fingerprint,
        "space": about.space,
        "bytes": f"{figures.bytes} ({figures.bytes // max(1, figures.documents)} a document)",
        "index": f"{figures.kind}: {figures.why}",
    }
    if figures.reembedding is not None:
        model, done = figures.reembedding
        lines["coming"] = f"{done} of {figures.documents} re-embedded with model {model}"
    if figures.recall is not None:
        lines["recall"] = (
            f"{figures.recall:.3f} of the nearest, for the worst group of queries; effort {figures.effort} for ten"
        )
        for group, shares in (figures.recall_by_group or {}).items():
            lines[f"recall, {group}"] = ", ".join(f"{share:.3f} of {k}" for k, share in shares.items())
    for name, value in lines.items():
        click.echo(f"{name:<12} {value}")


@command.command("reembed")
@_FOLDER
@_MODEL
@click.option("--restart", is_flag=True, help="Begin anew, where another model was begun with.")
def reembed(folder: Path, model: str, restart: bool) -> None:
    """Change the model of FOLDER: encode all stored texts with MODEL, then switch to it at once.

    Searches and writes go on meanwhile, with the model that was there. A run that was cut goes on when it is started
    again.
    """
    from tqdm import tqdm

    from encoder_tools import OnnxEncoder
    from index import Collection

    encoder = OnnxEncoder(model)
    with Collection.open(folder, None) as collection, ExitStack() as at_end:
        bar: Any = None

        def progress(done: int, count: int) -> None:
            nonlocal bar
            if bar is None:  # what an earlier run did is not of this one's rate
                bar = at_end.enter_context(tqdm(unit="text", initial=done, total=count, disable=None))
            bar.total = count
            bar.update(done - bar.n)

        before = collection.about.fingerprint
        collection.reembed(encoder, restart=restart, progress=progress)
        click.echo(f"{folder}: {collection.count()} documents, from model {before} to {encoder.fingerprint}")


@command.command("compact")
@_FOLDER
def compact(folder: Path) -> None:
    """Build the index that FOLDER should be searched through by now, and give back what deletes left free on disk."""
    from index import Collection

    with Collection.open(folder, None) as collection:
        collection.compact()
        click.echo(collection.stats().why)


@command.command("verify")
@_FOLDER
def verify(folder: Path) -> None:
    """Read all of FOLDER, and check it against its checksums."""
    from index import Collection

    with Collection.open(folder, None) as collection:
        click.echo(f"{folder}: {collection.verify()} documents, all whole")


@command.command("backup")
@_FOLDER
@click.argument("out", type=click.Path(path_type=Path))
def backup(folder: Path, out: Path) -> None:
    """Copy FOLDER as it is now to OUT, while others read and write it."""
    from index import Collection

    with Collection.open(folder, None) as collection:
        collection.backup(out)
        click.echo(f"wrote {out}")


@command.command("export")
@_FOLDER
@click.argument("out", type=click.Path(path_type=Path))
@_WHERE
def export(folder: Path, out: Path, where: str | None) -> None:
    """Write the documents of FOLDER, or those that match a filter, to OUT, as JSON Lines or Parquet (.parquet).

    `build` reads both; in Parquet, ids that are numbers beside others that are texts become texts. Pieces of documents
    come out as documents of their own, with what the metadata say of them.
    """
    from encoder_tools.io.parquet_writer import write_parquet
    from encoder_tools.io.rows import write_rows
    from index import Collection

    with Collection.open(folder, None) as collection:

        def rows() -> Iterator[dict[str, Any]]:
            for one in collection.scan(where=_filter(where)):
                yield {"id": one.id, "text": one.text, **one.metadata}

        if out.suffix == ".parquet":
            write_parquet(out, rows, as_text=("id",))
        else:
            write_rows(out, rows())
        click.echo(f"wrote {out}")


def _marked(text: str, spans: tuple[tuple[int, int], ...]) -> str:
    """The beginning of a text on one line, or what is around the first word of the query; those words in bold."""
    start = max(0, spans[0][0] - _BEFORE) if spans and spans[0][0] > _SHOWN - _BEFORE else 0
    start = text.find(" ", start) + 1 if start else 0  # at a word's beginning
    parts, at = ["... " if start else ""], start
    for first, end in spans:
        if start <= first and end <= start + _SHOWN:
            parts += [text[at:first], click.style(text[first:end], bold=True)]
            at = end
    return " ".join("".join([*parts, text[at : start + _SHOWN]]).split())


def _filter(text: str | None) -> Any:
    from encoder_tools.errors import InputError

    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f'--where is not JSON ({error}). Quote it for the shell: \'{{"lang": "en"}}\'.') from None
