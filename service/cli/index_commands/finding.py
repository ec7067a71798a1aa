"""Searching collections: ``index search``."""

from __future__ import annotations

import json
from typing import Any

import click

from service.cli.index_commands.arguments import FOLDER, WHERE, Location, read_where
from service.cli.options import MODEL

_SHOWN, _BEFORE = 160, 40  # characters of a text that are printed, at most, and before the first word of the query


@click.command("search", short_help="Search a collection.")
@FOLDER
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
@WHERE
@click.option("--neighbors", default=0, show_default=True, help="Chunks before and after each hit, with --json.")
@click.option(
    "--rescore", type=click.Choice(["tokens"]), help="Rank the first 50 again by the vectors of their tokens."
)
@click.option("--allow-sibling", is_flag=True, help="Accept a model of the same embedding space.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def search(
    folder: Location,
    query: str,
    model: str,
    k: int,
    mode: Any,
    where: str | None,
    neighbors: int,
    rescore: Any,
    allow_sibling: bool,
    as_json: bool,
) -> None:
    """Print the texts in FOLDER that match QUERY best."""
    from encoder_tools import OnnxEncoder
    from index import Collection

    encoder = None if mode == "lexical" and rescore is None else OnnxEncoder(model)
    with Collection.open(folder, encoder, allow_sibling=allow_sibling) as collection:
        hits = collection.search(
            query, k, mode=mode, where=read_where(where), highlight=True, neighbors=neighbors, rescore=rescore
        )
        for hit in hits:
            if as_json:
                around = {name: [one._asdict() for one in getattr(hit, name)] for name in ("before", "after")}
                click.echo(json.dumps({**hit._asdict(), **around}, ensure_ascii=False))
            else:
                click.echo(f"{hit.score:.4f}  {hit.id}  {_highlighted(hit.text, hit.highlights)}")


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
