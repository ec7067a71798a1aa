"""``encoder-tools serve``: models, heads and collections over HTTP."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from service.cli.address import address_options, key_options
from service.cli.options import gathered

if TYPE_CHECKING:
    from service.config import ServeConfig
    from service.http.middleware import Observer
    from service.serving.state import ServiceState
    from service.workers import WorkerPlace


@dataclass(frozen=True)
class ServeOptions:
    """What is served, how, and to whom."""

    config: Path | None
    models: tuple[str, ...]
    heads: tuple[str, ...]
    collections: tuple[str, ...]
    rerankers: tuple[str, ...]
    names: tuple[str, ...]
    data: Path | None
    allow_sibling: bool
    provider: Literal["cpu", "cuda", "tensorrt", "openvino"]
    variant: str
    threads: int | None
    gpus: int
    auto_truncate: bool
    token_ids: str
    max_wait: float
    workers: int
    access_log: bool
    traces: bool
    api_key: tuple[str, ...]
    read_key: tuple[str, ...]
    no_auth: bool
    allow_host: tuple[str, ...]
    allow_origin: tuple[str, ...]


@click.command("serve")
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with what to serve, in place of the flags.")
@click.option(
    "--model",
    "models",
    multiple=True,
    help='FOLDER or NAME=FOLDER of an exported model, or "default": the one that ships. Repeat it for several; the '
    "first answers requests that name none.  [default: default]",
)
@address_options
@key_options
@click.option("--collection", "collections", multiple=True, help="FOLDER or NAME=FOLDER of texts to search.")
@click.option("--head", "heads", multiple=True, help="FOLDER or NAME=FOLDER of a classifier head.")
@click.option("--reranker", "rerankers", multiple=True, help="FOLDER or NAME=FOLDER of a cross-encoder, for reranking.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder for collections that are created over HTTP.")
@click.option(
    "--allow-sibling",
    is_flag=True,
    help="Accept collections and heads of another model of the same embedding space; the agreement is shown.",
)
@click.option(
    "--provider",
    type=click.Choice(["cpu", "cuda", "tensorrt", "openvino"]),
    default="cpu",
    show_default=True,
    help="Where models run.",
)
@click.option(
    "--variant", default="fp32", show_default=True, help="fp32; qint8, fp16, bf16 if exported; auto for this machine."
)
@click.option("--threads", type=click.IntRange(min=1), help="ONNX Runtime threads.  [default: the usable cores]")
@click.option(
    "--gpus",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="GPUs of this machine that have a copy of each model, and batches of their own.",
)
@click.option(
    "--served-model-name",
    "names",
    multiple=True,
    help="Name that requests call the first model by; repeat it for aliases.  [default: the folder's name]",
)
@click.option(
    "--auto-truncate", is_flag=True, help="Truncate texts that are too long, unless a request says otherwise."
)
@click.option(
    "--token-ids",
    metavar="refuse|native|ENCODING",
    default="refuse",
    show_default=True,
    help="How token ids are read: refused, as this model's own, or as those of an encoding of tiktoken "
    "(cl100k_base, o200k_base), which are decoded to text first.",
)
@click.option(
    "--max-wait",
    type=click.FloatRange(min=0.01),
    default=10.0,
    show_default=True,
    help="Seconds that a request may wait in the queue; beyond that it is rejected with 429.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that share the port and the cores; for many small requests on many cores (Linux).",
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Seconds that requests under way get to finish after SIGTERM.",
)
@click.option(
    "--access-log/--no-access-log", default=True, show_default=True, help="Write one JSON line per request to stderr."
)
@click.option(
    "--traces",
    is_flag=True,
    help="Send one span per request by OTLP, to OTEL_EXPORTER_OTLP_ENDPOINT (extra: otel).",
)
@gathered(ServeOptions, "options")
def command(host: str, port: int, drain_timeout: float, options: ServeOptions) -> None:
    """Serve models over HTTP: embeddings, reranking, classification and search.

    Speaks OpenAI's, Cohere's and text-embeddings-inference's routes; GET / lists them, GET /openapi.json describes
    them. SIGTERM and Ctrl-C stop it gracefully: requests under way are finished, new ones get 503. SIGHUP or
    POST /admin/reload hot-reloads heads and collections.
    """
    from service.auth import Access, Keys
    from service.observability.logs import log_packages_as_json
    from service.server import bind, run, url_of
    from service.serving.loading import Reloader, load
    from service.workers import WorkerPlace, Workers

    log_packages_as_json()
    keys = Keys.of(options.api_key, options.read_key)
    place = WorkerPlace.mine()
    with ExitStack() as stack:
        several = options.workers > 1
        if several and place is None:
            _check_workers(options)
        listener = stack.enter_context(place.bind() if place else bind(host, port, shared=several))
        if place is None:
            _check_exposure(listener, keys, options.no_auth)
            if several:
                sys.exit(Workers(options.workers, host, listener, drain_timeout).run())
        observers = _observers(options, stack)
        config = _config(options)
        state = _state(options, config, place)
        load(config, state, threads=None if place is None else place.threads())
        state.reload = Reloader(state, partial(_config, options)).reload
        if place is not None:
            _be_one_of_several(state, place)
        state.access = Access(keys, frozenset(options.allow_host), frozenset(options.allow_origin))
        _describe(state)
        say_listening = partial(_say_listening, url_of(listener), state, bool(keys))
        run(state, listener, say_listening, drain_seconds=drain_timeout, observers=observers)
    click.echo("stopped")


def _check_workers(options: ServeOptions) -> None:
    from encoder_tools.machine.processor import this_processor

    if not sys.platform.startswith("linux"):
        raise click.UsageError("--workers needs Linux, whose kernel shares one port among processes.")
    if options.workers > this_processor().cores:
        raise click.UsageError(f"--workers {options.workers} are more than the {this_processor().cores} cores.")
    if options.data is not None:
        raise click.UsageError(
            "--data makes collections in one process, which the others would not know. Leave one out."
        )


def _be_one_of_several(state: ServiceState, place: WorkerPlace) -> None:
    from service.observability.combined import combined, leave

    folder = Path(place.folder)
    state.metrics_text = partial(combined, folder, place.number)
    state.each_second = lambda: leave(folder, place.number, state.metrics.text())
    state.tell_others_to_reload = place.reload_others
    place.end_with_the_first()


def _observers(options: ServeOptions, stack: ExitStack) -> list[Observer]:
    """Observers of each request; traces first, because the log line names them."""
    observers: list[Observer] = []
    if options.traces:
        from service.observability.tracing import Tracing

        tracing = Tracing.from_environment()
        stack.callback(tracing.close)
        observers.append(tracing)
    if options.access_log:
        from service.observability.logs import log_request

        observers.append(log_request)
    return observers


def _config(options: ServeOptions) -> ServeConfig:
    from service.config import ModelConfig, PartConfig, RerankerConfig, ServeConfig, checked, named, read_config

    if options.config is not None:
        if options.models or options.heads or options.collections or options.rerankers:
            raise click.UsageError("--config says what to serve; leave out --model, --head, --collection, --reranker.")
        return read_config(options.config)
    models: dict[str, str] = {}
    for value in options.models or ("default",):
        folder_name = Path(value).resolve().name if value != "default" else value
        models |= named([value], folder_name)
    names = options.names
    described = {}
    for number, (name, path) in enumerate(models.items()):
        first = number == 0 and names
        described[names[0] if first else name] = ModelConfig(
            path, list(names[1:]) if first else [], options.variant, options.provider, options.threads, options.gpus
        )

    def parts(given: tuple[str, ...]) -> dict[str, PartConfig]:
        sibling = options.allow_sibling
        return {name: PartConfig(path, None, sibling) for name, path in named(given, "default").items()}

    only = next(iter(described))
    rerankers = {
        name: RerankerConfig(path, options.provider, options.threads, options.gpus)
        for name, path in named(options.rerankers, "reranker").items()
    }
    config = ServeConfig(described, parts(options.heads), parts(options.collections), rerankers)
    if len(described) > 1:  # flags cannot say which model a head or a collection belongs to: the first
        for part in (config.heads, config.collections):
            part.update({name: PartConfig(one.path, only, one.allow_sibling) for name, one in part.items()})
    return checked(config)


def _state(options: ServeOptions, config: ServeConfig, place: WorkerPlace | None) -> ServiceState:
    from service.batching import QueueLimits
    from service.serving.openai_tokens import decoder_of
    from service.serving.state import Limits, ServiceState

    ids = options.token_ids
    data = options.data or (Path(config.data) if config.data else None)
    limits = Limits(queue=QueueLimits(max_wait=options.max_wait))
    return ServiceState(
        limits if place is None else limits.divided(place.count),
        data=data,
        native_ids=ids == "native",
        decode_ids=None if ids in ("refuse", "native") else decoder_of(ids),
        auto_truncate=options.auto_truncate,
    )


def _check_exposure(listener: Any, keys: Any, no_auth: bool) -> None:
    from service.server import is_loopback

    if is_loopback(listener) or keys:
        return
    if not no_auth:
        raise click.UsageError(
            "Other machines can reach this address, and anyone there could use the service. Give it a key with "
            "--api-key (or ENCODER_TOOLS_API_KEY), or say --no-auth if something in front of it asks for one."
        )
    click.echo("warning: whoever reaches this address can use it; --no-auth was given.", err=True)


def _describe(state: ServiceState) -> None:
    registry = state.registry
    for name, model in registry.models.items():
        encoder, costs = model.encoder, model.embedder.engine.costs
        click.echo(f"model       {name}: {encoder.dim} dimensions, fingerprint {encoder.fingerprint}")
        provider, variant = getattr(encoder, "provider", "cpu"), getattr(encoder, "variant", "fp32")
        click.echo(f"provider    {provider} ({variant}); {costs.speed:,.0f} tokens/s in batches of {costs.budget}")
    for name, served in registry.collections.items():
        with served.shared.used() as collection:
            click.echo(f"collection  {name}: {collection.count()} texts for /search" + _from(served.folder))
            if collection.sibling is not None:
                click.echo(_siblings(collection.sibling, registry.models[served.model].encoder))
    for name, why in registry.unavailable.items():
        click.echo(f"warning: the collection {name} cannot be served: {why}", err=True)
    for name, head in registry.heads.items():
        click.echo(f"head        {name}: {len(head.head.labels)} labels for /v1/classify" + _from(head.folder))
        if head.head.fingerprint not in (None, registry.models[head.model].encoder.fingerprint):
            click.echo(_siblings(str(head.head.fingerprint), registry.models[head.model].encoder))
    for name in registry.rerankers:
        click.echo(f"reranker    {name}: a cross-encoder for /rerank and /v1/rerank")
    if state.data is not None:
        click.echo(f"data        {state.data} for collections made over HTTP")


def _from(folder: Path | None) -> str:
    return f" from {folder}" if folder else ""


def _siblings(made_by: str, encoder: Any) -> str:
    agreement = encoder.space.agreement or "this model is the root of their space"
    return f"            made by its sibling {made_by}; agreement of this model with {encoder.space.name}: {agreement}"


def _say_listening(url: str, state: ServiceState, locked: bool) -> None:
    click.echo(f"listening   {url}  (open it in a browser; Ctrl-C stops)\n")
    body = f'{{"model": "{state.registry.default_model().name}", "input": "Where is my card?"}}'
    key = ' -H "Authorization: Bearer $ENCODER_TOOLS_API_KEY"' if locked else ""
    click.echo(f"curl {url}/v1/embeddings -H 'Content-Type: application/json'{key} -d '{body}'\n")
