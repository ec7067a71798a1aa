"""Keeping collections: ``index stats``, ``reembed``, ``compact``, ``prepare-rescoring``, ``verify`` and ``backup``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from service.cli.index_commands.arguments import FOLDER, Location
from service.cli.options import MODEL


@click.command("stats", short_help="Show contents, index and recall.")
@FOLDER
def stats(folder: Location) -> None:
    """Show what FOLDER holds, how it is searched, and the measured recall."""
    from index import Collection

    with Collection.open(folder, None) as collection:
        about, figures = collection.about, collection.stats()
    lines = {
        "documents": figures.documents,
        "width": figures.dim,
        "model": about.fingerprint,
        "space": about.space,
        "bytes": "not told by this engine"
        if figures.bytes is None
        else f"{figures.bytes} ({figures.bytes // max(1, figures.documents)} per document)",
        "index": f"{figures.kind}: {figures.why}",
        "storage": figures.storage,
    }
    for number, line in enumerate(figures.advice):
        lines["advice" if number == 0 else f"       {number + 1}"] = line
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


@click.command("reembed", short_help="Change the model of a collection.")
@FOLDER
@MODEL
@click.option("--restart", is_flag=True, help="Start over, if a run with another model was interrupted.")
def reembed(folder: Location, model: str, restart: bool) -> None:
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
        click.echo(f"{collection.folder}: {collection.count()} documents, from model {before} to {encoder.fingerprint}")


@click.command("compact", short_help="Build the index and shrink the file.")
@FOLDER
def compact(folder: Location) -> None:
    """Build the approximate index of FOLDER now, and give back disk space that deletes have left."""
    from index import Collection

    with Collection.open(folder, None) as collection:
        collection.compact()
        click.echo(collection.stats().why)


@click.command("prepare-rescoring", short_help="Store token vectors for search --rescore.")
@FOLDER
@MODEL
def prepare_rescoring(folder: Location, model: str) -> None:
    """Store the vectors of all tokens beside FOLDER, so that a search with --rescore tokens encodes its query alone."""
    from encoder_tools import OnnxEncoder
    from index import Collection

    with Collection.open(folder, OnnxEncoder(model)) as collection:
        click.echo(f"{collection.folder}: the token vectors of {collection.prepare_rescoring()} texts are stored")


@click.command("verify", short_help="Check everything against its checksums.")
@FOLDER
def verify(folder: Location) -> None:
    """Read everything in FOLDER and check it against its checksums."""
    from index import Collection

    with Collection.open(folder, None) as collection:
        click.echo(f"{collection.folder}: {collection.verify()} documents, all whole")


@click.command("backup", short_help="Copy a collection while it is in use.")
@FOLDER
@click.argument("out", type=click.Path(path_type=Path))
def backup(folder: Location, out: Path) -> None:
    """Copy FOLDER as it is now to OUT; others may read and write it meanwhile."""
    from index import Collection

    with Collection.open(folder, None) as collection:
        collection.backup(out)
        click.echo(f"wrote {out}")
