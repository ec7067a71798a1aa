"""``encoder-tools index``: collections of texts, built, searched and maintained."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.cli.options import MODEL, READING, OrderedGroup, gathered, with_options

if TYPE_CHECKING:
    from index.storage.precision import Storage

_FOLDER = click.argument("folder", type=click.Path(path_type=Path))
_SHOWN, _BEFORE = 160, 40  # characters of a text that are printed, at most, and before the first word of the query
_WHERE = click.option("--where", help='A filter, as JSON: \'{"lang": "en"}\'.')


@click.group("index", cls=OrderedGroup)
def command() -> None:
    """Build collections of texts, and search them by meaning, by words, or by both."""


@dataclass(frozen=True)
class FileOptions:
    """How files are read and stored."""

    text: str
    identifier: str
    keep: tuple[str, ...]
    split: str
    encoding: str | None
    delimiter: str | None
    chunk_tokens: int | None
    overlap: int
    main_text: bool
    sync: bool
    watch: bool


_FILES = (
    _FOLDER,
    click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True),
    MODEL,
    click.option("--text", default="text", show_default=True, help="Column of the texts."),
    click.option("--id", "identifier", default="id", show_default=True, help="Column of the ids.  [else: file:row]"),
    click.option("--keep", multiple=True, help="Column to keep as metadata; repeat it for several.  [default: all]"),
    *READING,
    click.option(
        "--chunk-tokens",
        type=click.IntRange(min=0),
        help="Tokens per chunk; 0 stores texts whole.  [default: 256 for text files, else 0]",
    ),
    click.option("--overlap", default=32, show_default=True, help="Tokens that a chunk shares with the one before."),
    click.option("--main-text", is_flag=True, help="Leave out navigation, footers and cookie banners of HTML."),
    click.option("--sync", is_flag=True, help="Delete documents that are in none of FILES."),
    click.option("--watch", is_flag=True, help="Then follow FILES, which are folders, and store what changes."),
)


@command.command("build", short_help="Create a collection or add files to it.")
@with_options(_FILES)
@click.option(
    "--stemming", metavar="LANGUAGE", help="Match words by their stem: english, german, ... (extra: stemming)."
)
@click.option(
    "--storage",
    type=click.Choice(["float32", "float16", "int8"]),
    help="How vectors are kept: float16 takes half the room, int8 a quarter of the memory.  [default: float32]",
)
@gathered(FileOptions, "options")
def build(
    folder: Path,
    files: tuple[Path, ...],
    model: str,
    stemming: str | None,
    storage: Storage | None,
    options: FileOptions,
) -> None:
    """Add the contents of FILES to the collection FOLDER, which is created if it does not exist.

    FILES are CSV, TSV, JSON Lines, JSON arrays (each also .gz), Parquet, folders of datasets, text files (.txt, .rst,
    .md, .html), documents (.pdf, .docx, .pptx, .xlsx, .epub, .eml, .mbox; extra: documents) and folders of them, whose
    ids are their paths. Unchanged documents are not encoded again, so that
    an interrupted run resumes when it is started again. Rows that cannot be stored are written to FOLDER.rejected.jsonl
    with the reason, and the exit code is 3.
    """
    from encoder_tools import OnnxEncoder
    from index import Collection

    encoder = OnnxEncoder(model)
    opened = Collection.open(folder, encoder) if (folder / "collection.db").exists() else None
    for name, value in {"--stemming": stemming, "--storage": storage}.items():
        if opened is not None and value is not None:
            opened.close()
            raise click.UsageError(f"{name} is chosen when a collection is made, and {folder} is there.")
    with opened or Collection.create(folder, encoder, stemming=stemming, storage=storage or "float32") as collection:
        _add_all(collection, folder, files, options)


@command.command("add", short_help="Add files to an existing collection.")
@with_options(_FILES)
@gathered(FileOptions, "options")
def add(folder: Path, files: tuple[Path, ...], model: str, options: FileOptions) -> None:
    """Add the contents of FILES to the collection FOLDER, which must exist; otherwise as `build`."""
    from encoder_tools import OnnxEncoder
    from index import Collection

    with Collection.open(folder, OnnxEncoder(model)) as collection:
        _add_all(collection, folder, files, options)


def _add_all(collection: Any, folder: Path, files: tuple[Path, ...], options: FileOptions) -> None:
    import time

    from encoder_tools.io.columns import DocumentColumns
    from encoder_tools.io.rows import Reading
    from index.ingest.add_files import AddOptions, add_files
    from index.ingest.watch import check_watched, watch_folders

    adding = AddOptions(
        DocumentColumns(options.text, options.identifier, options.keep or None),
        Reading(options.split, options.encoding, options.delimiter),
        chunk_tokens=options.chunk_tokens,
        overlap=options.overlap,
        main_text=options.main_text,
        sync=options.sync,
    )
    start = time.time()
    if options.watch:
        check_watched(files)
    add_files(collection, folder, files, adding, click.echo, _with_bar)
    click.echo(f"{folder}: {collection.count()} documents")
    if options.watch:
        click.echo("following " + ", ".join(map(str, files)) + " until interrupted")
        watch_folders(collection, folder, files, adding, click.echo, since=start)


def _with_bar(name: str, expected: int | None, parts: Iterable[Any]) -> Iterator[Any]:
    from tqdm import tqdm

    with tqdm(unit="row", desc=name, total=expected, disable=None) as bar:
        for part in parts:
            bar.update(sum(part))
            yield part


@command.command("search", short_help="Search a collection.")
@_FOLDER
@click.argument("query")
@MODEL
@click.option("-k", default=10, show_default=True, help="Number of hits.")
@click.option(
    "--mode",
    type=click.Choice(["dense", "lexical", "hybrid"]),
    default="dense",
    show_default=True,
    help="By meaning, by words, or both.",
)
@_WHERE
@click.option("--allow-sibling", is_flag=True, help="Accept a model of the same embedding space.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def search(
    folder: Path, query: str, model: str, k: int, mode: Any, where: str | None, allow_sibling: bool, as_json: bool
) -> None:
    """Print the texts in FOLDER that match QUERY best."""
    from encoder_tools import OnnxEncoder
    from index import Collection

    encoder = None if mode == "lexical" else OnnxEncoder(model)
    with Collection.open(folder, encoder, allow_sibling=allow_sibling) as collection:
        for hit in collection.search(query, k, mode=mode, where=_filter(where), highlight=True):
            if as_json:
                click.echo(json.dumps(hit._asdict(), ensure_ascii=False))
            else:
                click.echo(f"{hit.score:.4f}  {hit.id}  {_highlighted(hit.text, hit.highlights)}")


@command.command("delete", short_help="Delete documents.")
@_FOLDER
@click.option("--id", "ids", multiple=True, help="Id of a document, text or number; repeat it for several.")
@_WHERE
@click.option("--all", "everything", is_flag=True, help="All documents.")
def delete(folder: Path, ids: tuple[str, ...], where: str | None, everything: bool) -> None:
    """Delete documents of FOLDER by their ids, by a filter, or all of them."""
    from index import Collection

    if everything and (ids or where is not None):
        raise click.UsageError("--all is for all documents; leave --id and --where out.")
    with Collection.open(folder, None) as collection:
        if everything:
            count = collection.delete_all()
        elif where is not None or not ids:
            count = collection.delete(list(ids) or None, where=_filter(where))
        else:
            numbers = [
                int(name) for name in ids if name.removeprefix("-").isascii() and name.removeprefix("-").isdigit()
            ]
            count = collection.delete([*dict.fromkeys(ids), *dict.fromkeys(numbers)])
        click.echo(f"{count} documents deleted, {collection.count()} left")


@command.command("stats", short_help="Show contents, index and recall.")
@_FOLDER
def stats(folder: Path) -> None:
    """Show what FOLDER holds, how it is searched, and the measured recall."""
    from index import Collection

    with Collection.open(folder, None) as collection:
        about, figures = collection.about, collection.stats()
    lines = {
        "documents": figures.documents,
        "width": figures.dim,
        "model": about.fingerprint,
        "space": about.space,
        "bytes": f"{figures.bytes} ({figures.bytes // max(1, figures.documents)} per document)",
        "index": f"{figures.kind}: {figures.why}",
        "storage": figures.storage,
    }
    if figures.reembedding is not None:
        model, done = figures.reembedding
        lines["re-embedding"] = f"{done} of {figures.documents} re-embedded with model {model}"
    if figures.recall is not None:
        lines["recall"] = (
            f"{figures.recall:.3f} of the nearest, for the worst group of queries; effort {figures.effort} for ten"
        )
        for group, shares in (figures.recall_by_group or {}).items():
            lines[f"recall, {group}"] = ", ".join(f"{share:.3f} of {k}" for k, share in shares.items())
    for name, value in lines.items():
        click.echo(f"{name:<12} {value}")


@command.command("reembed", short_help="Change the model of a collection.")
@_FOLDER
@MODEL
@click.option("--restart", is_flag=True, help="Start over, if a run with another model was interrupted.")
def reembed(folder: Path, model: str, restart: bool) -> None:
    """Change the model of FOLDER: encode all stored texts with MODEL, then switch to it at once.

    Searches and writes go on meanwhile, with the old model. An interrupted run resumes when it is started again.
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


@command.command("compact", short_help="Build the index and shrink the file.")
@_FOLDER
def compact(folder: Path) -> None:
    """Build the approximate index of FOLDER now, and give back disk space that deletes have left."""
    from index import Collection

    with Collection.open(folder, None) as collection:
        collection.compact()
        click.echo(collection.stats().why)


@command.command("verify", short_help="Check everything against its checksums.")
@_FOLDER
def verify(folder: Path) -> None:
    """Read everything in FOLDER and check it against its checksums."""
    from index import Collection

    with Collection.open(folder, None) as collection:
        click.echo(f"{folder}: {collection.verify()} documents, all whole")


@command.command("backup", short_help="Copy a collection while it is in use.")
@_FOLDER
@click.argument("out", type=click.Path(path_type=Path))
def backup(folder: Path, out: Path) -> None:
    """Copy FOLDER as it is now to OUT; others may read and write it meanwhile."""
    from index import Collection

    with Collection.open(folder, None) as collection:
        collection.backup(out)
        click.echo(f"wrote {out}")


@command.command("export", short_help="Write documents to a file.")
@_FOLDER
@click.argument("out", type=click.Path(path_type=Path))
@_WHERE
def export(folder: Path, out: Path, where: str | None) -> None:
    """Write the documents of FOLDER, or those that match a filter, to OUT, as JSON Lines or Parquet (.parquet).

    `build` reads both; in Parquet, ids that are numbers beside others that are texts become texts. Chunks are
    written as documents of their own, with what the metadata say of them.
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


def _highlighted(text: str, spans: tuple[tuple[int, int], ...]) -> str:
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
