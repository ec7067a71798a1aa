"""The quality of collections: ``index evaluate`` and ``index duplicates``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from service.cli.index_commands.arguments import FOLDER, Location
from service.cli.options import MODEL

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_NAMED = 5


@click.command("evaluate", short_help="Measure searches by judged queries.")
@FOLDER
@MODEL
@click.option("--queries", type=_FILE, required=True, help="Rows with id and text.")
@click.option("--qrels", type=_FILE, required=True, help="Rows with query_id, doc_id, relevance; or TREC's columns.")
@click.option("--allow-sibling", is_flag=True, help="Accept a model of the same embedding space.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def evaluate(folder: Location, model: str, queries: Path, qrels: Path, allow_sibling: bool, as_json: bool) -> None:
    """Measure dense, lexical and hybrid search in FOLDER by queries whose relevant documents are known.

    Printed are nDCG of the first 10, recall of the first 100 and the mean reciprocal rank, each with the interval that
    95 % of resamples of the queries have it in. From 40 queries on, weights for hybrid search are chosen on one half
    of the queries and checked on the other.
    """
    from encoder_tools import OnnxEncoder
    from index import Collection
    from index.quality.evaluation import evaluate_collection
    from index.quality.judgments import read_judged

    judged = read_judged(queries, qrels)
    encoder = OnnxEncoder(model)
    with Collection.open(folder, encoder, allow_sibling=allow_sibling) as collection:
        result = evaluate_collection(collection, judged, encoder, lambda line: click.echo(line, err=True))
    if as_json:
        click.echo(json.dumps({**asdict(result), "left_out": judged.left_out}))
        return
    click.echo(f"{result.queries} queries; {judged.left_out} left out, without a text or a relevant document")
    if result.missing:
        click.echo(f"{result.missing} relevant documents are not in {collection.folder}, so no search can find them")
    click.echo(f"{'':<8} {'nDCG@10':<22} {'recall@100':<22} MRR@100")
    for mode, quality in result.quality.items():
        figures = (quality.ndcg, quality.recall, quality.reciprocal_rank)
        cells = [f"{one.mean:.4f} ({one.low:.3f}-{one.high:.3f})" for one in figures]
        click.echo(f"{mode:<8} {cells[0]:<22} {cells[1]:<22} {cells[2]}")
    click.echo(_in_words(result.advice))


def _in_words(advice: Any) -> str:
    if advice is None:
        return "weights of hybrid search: too few queries to choose them"
    gain = f"{advice.gain.mean:+.4f} ({advice.gain.low:+.4f} to {advice.gain.high:+.4f})"
    weights = f"fusion {advice.fusion}, dense {advice.dense_weight:.1f}, lexical {1 - advice.dense_weight:.1f}"
    verdict = "use them" if advice.clear else "no clear gain: keep the default"
    return (
        f"weights of hybrid search: {weights}; on the {advice.queries} queries that did not choose them nDCG@10 is "
        f"{advice.ndcg:.4f}, with the default {advice.default:.4f}: {gain}, a gain in {advice.certainty:.0%} of "
        f"resamples; {verdict}"
    )


@click.command("duplicates", short_help="Find near-duplicates.")
@FOLDER
@click.option(
    "--by",
    type=click.Choice(["vectors", "words", "both"]),
    default="vectors",
    show_default=True,
    help="By what they say, by how they say it (extra: quality), or by either.",
)
@click.option("--cosine", default=0.95, show_default=True, help="Of vectors, from which documents are near.")
@click.option("--share", default=0.8, show_default=True, help="Of three-word pieces in common, from which they are.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per group.")
def duplicates(folder: Location, by: Any, cosine: float, share: float, as_json: bool) -> None:
    """Print groups of documents in FOLDER that are nearly the same; the first of each was written first."""
    from index import Collection
    from index.quality.similar_documents import similar_documents

    with Collection.open(folder, None) as collection:
        groups = similar_documents(collection, by, cosine=cosine, words=share)
        if as_json:
            for group in groups:
                pairs = [pair._asdict() for pair in group.pairs]
                click.echo(json.dumps({"ids": group.ids, "pairs": pairs}, ensure_ascii=False))
            return
        for group in groups:
            scores = [pair.score for pair in group.pairs]
            more = f" and {len(group.ids) - _NAMED} more" if len(group.ids) > _NAMED else ""
            named = ", ".join(map(str, group.ids[:_NAMED]))
            click.echo(f"{len(group.ids)} documents, scores {min(scores):.3f} to {max(scores):.3f}: {named}{more}")
        extra = sum(len(group.ids) - 1 for group in groups)
        click.echo(f"{collection.folder}: {len(groups)} groups, {extra} documents beside the first of each")
