"""``encoder-tools demo``: the shipped model over the shipped texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.cli.address import address_options

if TYPE_CHECKING:
    from service.demo.build import Figures

_NAME = "default"
_JSON = "-H 'Content-Type: application/json'"


@click.command("demo")
@address_options
@click.option("--model", default=_NAME, show_default=True, help="Exported model folder, or the one that ships.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder for what the first start builds.")
def command(host: str, port: int, model: str, cache: Path | None) -> None:
    """Serve the shipped model over the shipped texts, and print three things to try.

    Search runs over 240 paragraphs of XQuAD, classification over the 77 intents of Banking77. The first start embeds
    them; later ones find the result in the cache.
    """
    from service.demo.build import default_cache, open_demo
    from service.server import bind, is_loopback, run, url_of
    from service.serving.loading import load_encoder
    from service.serving.state import ServiceState

    with bind(host, port) as listener:
        encoder = load_encoder(model)
        click.echo(f"model       {_NAME}: {encoder.dim} dimensions on {encoder.provider}")
        demo = open_demo(encoder, cache or default_cache(), click.echo)
        _describe(demo.figures)
        if not is_loopback(listener):
            raise click.UsageError("The demonstration has no keys, so it listens on this machine only.")
        state = ServiceState.of(encoder, names=(_NAME,), collection=demo.collection, head=demo.head)
        run(state, listener, lambda: _say_listening(url_of(listener)))
    click.echo("stopped")


def _describe(figures: Figures) -> None:
    click.echo(
        f"search      {figures.paragraphs} paragraphs of XQuAD; the right one comes first for "
        f"{figures.first_hit:.0%} of {figures.questions} questions"
    )
    click.echo(
        f"classify    {figures.labels} intents of Banking77; accuracy {figures.accuracy:.1%} on "
        f"{figures.test_texts} test texts; {figures.answered:.1%} answered, {figures.errors:.1%} of the answers wrong"
    )


def _say_listening(url: str) -> None:
    click.echo(f"listening   {url}  (open it in a browser; Ctrl-C stops)\n\nThree things to try in another terminal:\n")
    for route, body in (
        ("/v1/embeddings", '{"model": "default", "input": "Where is my card?"}'),
        ("/search", '{"query": "Who discovered oxygen?", "k": 3}'),
        ("/classify", '{"input": "My card has not arrived yet", "top": 3}'),
    ):
        click.echo(f"curl {url}{route} {_JSON} -d '{body}'\n")
