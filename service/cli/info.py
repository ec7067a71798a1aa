"""``encoder-tools info``: what a model folder holds."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("info")
@click.argument("model", type=click.Path(path_type=Path), required=False)
def command(model: Path | None) -> None:
    """Describe MODEL, an exported model folder, or the model that ships with this package."""
    from encoder_tools.model_folder import ModelFolder
    from encoder_tools.runtime.manifest import Manifest
    from service.loading import DEFAULT_MODEL

    folder = ModelFolder.open(model or DEFAULT_MODEL)
    manifest = Manifest.read(folder)
    manifest.check_fresh(folder)
    click.echo(f"folder       {folder.path}")
    click.echo(f"pipeline     {' > '.join(module.kind for module in folder.modules)}")
    click.echo(f"dimensions   {folder.dim}")
    click.echo(f"max length   {folder.max_length or 'no limit'} tokens")
    click.echo(f"prompts      {', '.join(sorted(folder.prompts.prompts)) or 'none'}")
    click.echo(f"fingerprint  {manifest.fingerprint}")
    for variant, graph in manifest.graphs.items():
        click.echo(
            f"{variant:<12} {graph.file}, {graph.weights} weights; against torch: "
            f"worst difference {graph.max_abs_difference:.1e}, lowest cosine {graph.min_cosine:.6f}"
        )
