"""Adding files to collections: ``index build`` and ``index add``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.cli.index_commands.arguments import FOLDER, Location, beside
from service.cli.options import DOCUMENT_COLUMNS, MODEL, ColumnOptions, gathered, with_options

if TYPE_CHECKING:
    from encoder_tools.bulk import VectorShards
    from index.storage.precision import Storage


@dataclass(frozen=True)
class FileOptions:
    """How what is read is cut and stored."""

    chunk_tokens: int | None
    overlap: int
    main_text: bool
    code: bool
    sync: bool
    watch: bool


_FILES = (
    FOLDER,
    click.argument("files", type=click.Path(path_type=Path), nargs=-1),
    MODEL,
    *DOCUMENT_COLUMNS,
    click.option(
        "--chunk-tokens",
        type=click.IntRange(min=0),
        help="Tokens per chunk; 0 stores texts whole.  [default: 256 for text files, else 0]",
    ),
    click.option("--overlap", default=32, show_default=True, help="Tokens that a chunk shares with the one before."),
    click.option("--main-text", is_flag=True, help="Leave out navigation, footers and cookie banners of HTML."),
    click.option("--code", is_flag=True, help="Read source code too, cut between its definitions (extra: code)."),
    click.option("--sync", is_flag=True, help="Delete documents that are in none of FILES."),
    click.option("--watch", is_flag=True, help="Then follow FILES, which are folders, and store what changes."),
)


@click.command("build", short_help="Create a collection or add files to it.")
@with_options(_FILES)
@click.option(
    "--stemming", metavar="LANGUAGE", help="Match words by their stem: english, german, ... (extra: stemming)."
)
@click.option(
    "--storage",
    type=click.Choice(["float32", "float16", "int8", "binary"]),
    help="How vectors are kept: float16 takes half the room, int8 a quarter of the memory.  [default: float32]",
)
@click.option("--from", "vectors", help="Folder or address of vectors that `encoder-tools embed` made.")
@gathered(ColumnOptions, "rows")
@gathered(FileOptions, "options")
def build(
    folder: Location,
    files: tuple[Path, ...],
    model: str,
    stemming: str | None,
    storage: Storage | None,
    vectors: str | None,
    rows: ColumnOptions,
    options: FileOptions,
) -> None:
    """Add the contents of FILES, or vectors that are made already (--from), to the collection FOLDER, which is created
    if it does not exist.

    FILES are CSV, TSV, JSON Lines, JSON arrays (each also .gz), Parquet, folders of datasets, text files (.txt, .rst,
    .md, .html), documents (.pdf, .docx, .pptx, .xlsx, .epub, .eml, .mbox; extra: documents) and folders of them, whose
    ids are their paths. Unchanged documents are not encoded again, so that
    an interrupted run resumes when it is started again. Rows that cannot be stored are written to FOLDER.rejected.jsonl
    with the reason, and the exit code is 3.
    """
    from contextlib import suppress

    from encoder_tools import OnnxEncoder
    from encoder_tools.errors import FileMissingError
    from index import Collection

    if bool(files) == (vectors is not None):
        raise click.UsageError("Name FILES, or a folder of vectors with --from.")
    shards = None if vectors is None else _shards(vectors)  # before a collection is made
    encoder = OnnxEncoder(model)
    opened = None
    if isinstance(folder, str) or (folder / "collection.db").exists():
        with suppress(FileMissingError):
            opened = Collection.open(folder, encoder)
    for name, value in {"--stemming": stemming, "--storage": storage}.items():
        if opened is not None and value is not None:
            opened.close()
            raise click.UsageError(f"{name} is chosen when a collection is made, and the collection is there.")
    with opened or Collection.create(folder, encoder, stemming=stemming, storage=storage or "float32") as collection:
        if shards is None:
            _add_all(collection, folder, files, rows, options)
        else:
            _add_vectors(collection, folder, shards)


@click.command("add", short_help="Add files to an existing collection.")
@with_options(_FILES)
@gathered(ColumnOptions, "rows")
@gathered(FileOptions, "options")
def add(folder: Location, files: tuple[Path, ...], model: str, rows: ColumnOptions, options: FileOptions) -> None:
    """Add the contents of FILES to the collection FOLDER, which must exist; otherwise as `build`."""
    from encoder_tools import OnnxEncoder
    from index import Collection

    if not files:
        raise click.UsageError("Missing argument 'FILES...'.")
    with Collection.open(folder, OnnxEncoder(model)) as collection:
        _add_all(collection, folder, files, rows, options)


def _add_all(
    collection: Any, folder: Location, files: tuple[Path, ...], rows: ColumnOptions, options: FileOptions
) -> None:
    import time

    from index.ingest.add_files import AddOptions, add_files
    from index.ingest.watch import check_watched, watch_folders

    adding = AddOptions(
        rows.columns,
        rows.reading,
        chunk_tokens=options.chunk_tokens,
        overlap=options.overlap,
        main_text=options.main_text,
        code=options.code,
        sync=options.sync,
    )
    start = time.time()
    if options.watch:
        check_watched(files)
    add_files(collection, beside(folder), files, adding, click.echo, _with_bar)
    click.echo(f"{collection.folder}: {collection.count()} documents")
    if options.watch:
        click.echo("following " + ", ".join(map(str, files)) + " until interrupted")
        watch_folders(collection, beside(folder), files, adding, click.echo, since=start)


def _shards(vectors: str) -> VectorShards:
    """Vectors that are made already, of which nothing may be said that is of files."""
    from encoder_tools.bulk import VectorShards

    context = click.get_current_context()
    for option in (*fields(ColumnOptions), *fields(FileOptions)):
        if context.get_parameter_source(option.name) == click.core.ParameterSource.COMMANDLINE:
            flag = next(one.opts[0] for one in context.command.params if one.name == option.name)
            raise click.UsageError(f"{flag} is of FILES; with --from it was decided when the vectors were made.")
    return VectorShards(vectors)


def _add_vectors(collection: Any, folder: Location, shards: VectorShards) -> None:
    from index.ingest.rows import Ingested
    from index.ingest.vector_rows import ingest_vectors

    total = Ingested()
    for part in _with_bar(shards.address, shards.rows, ingest_vectors(collection, shards, beside(folder))):
        total = total.plus(part)
    click.echo(f"{shards.address}: {total.stored} stored, {total.unchanged} unchanged, {total.rejected} rejected")
    click.echo(f"{collection.folder}: {collection.count()} documents")


def _with_bar(name: str, expected: int | None, parts: Iterable[Any]) -> Iterator[Any]:
    from tqdm import tqdm

    with tqdm(unit="row", desc=name, total=expected, disable=None) as bar:
        for part in parts:
            bar.update(sum(part))
            yield part
