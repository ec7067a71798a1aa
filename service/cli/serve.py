"""``encoder-tools serve``: a model over HTTP."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from service.cli.address import address_options, warn_beyond_loopback

if TYPE_CHECKING:
    from encoder_tools.runtime import OnnxEncoder
    from service.state import ServiceState


@click.command("serve")
@click.option(
    "--model", default="default", show_default=True, help='Exported model folder, or "default": the one that ships.'
)
@address_options
@click.option("--collection", type=click.Path(path_type=Path), help="Folder of texts for /search.")
@click.option("--head", type=click.Path(path_type=Path), help="Folder of a classifier head for /classify.")
@click.option(
    "--allow-sibling",
    is_flag=True,
    help="Take a collection or a head that another model of the same space made; the agreement is shown.",
)
@click.option("--provider", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--variant", default="fp32", show_default=True, help="fp32, or qint8 where the export made it.")
@click.option("--threads", type=click.IntRange(min=1), help="ONNX Runtime threads.  [default: the usable cores]")
@click.option(
    "--served-model-name",
    "names",
    multiple=True,
    help="Name that requests call the model by; repeat it for aliases.  [default: the folder's name]",
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Seconds that requests under way get to finish after SIGTERM.",
)
def command(
    model: str,
    host: str,
    port: int,
    collection: Path | None,
    head: Path | None,
    allow_sibling: bool,
    provider: Literal["cpu", "cuda"],
    variant: str,
    threads: int | None,
    names: tuple[str, ...],
    drain_timeout: float,
) -> None:
    """Serve a model over HTTP: OpenAI's /v1/embeddings, and /search and /classify where there is something for them.

    Stops on Ctrl-C or SIGTERM; requests that are under way may finish, new ones are refused with 503.
    """
    from service.loading import load_encoder, load_state
    from service.server import bind, run, url_of

    with bind(host, port) as listener:
        encoder = load_encoder(model, variant=variant, provider=provider, threads=threads)
        state = load_state(encoder, names=names, collection=collection, head=head, allow_sibling=allow_sibling)
        click.echo(f"model       {state.names[0]}: {encoder.dim} dimensions, fingerprint {encoder.fingerprint}")
        click.echo(f"provider    {encoder.provider} ({variant})")
        _describe(state, encoder)
        warn_beyond_loopback(listener)
        say_listening = partial(_say_listening, url_of(listener), state.names[0])
        run(state, listener, say_listening, drain_seconds=drain_timeout)
    click.echo("stopped")


def _describe(state: ServiceState, encoder: OnnxEncoder) -> None:
    if state.collection is not None:
        click.echo(f"collection  {state.collection.count()} texts for /search")
        if state.collection.sibling is not None:
            click.echo(_siblings(state.collection.sibling, encoder))
    if state.head is not None:
        click.echo(f"head        {len(state.head.labels)} labels for /classify")
        if state.head.fingerprint not in (None, encoder.fingerprint):
            click.echo(_siblings(str(state.head.fingerprint), encoder))


def _siblings(made_by: str, encoder: OnnxEncoder) -> str:
    agreement = encoder.space.agreement or "this model is the root of their space"
    return f"            made by its sibling {made_by}; agreement of this model with {encoder.space.name}: {agreement}"


def _say_listening(url: str, name: str) -> None:
    click.echo(f"listening   {url}  (Ctrl-C stops)\n")
    body = f'{{"model": "{name}", "input": "Where is my card?"}}'
    click.echo(f"curl {url}/v1/embeddings -H 'Content-Type: application/json' -d '{body}'\n")
