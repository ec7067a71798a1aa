"""``encoder-tools info``: what a model folder holds."""

from __future__ import annotations

import click

_APPROXIMATE = {
    "qint8": "weights and activations quantized to int8",
    "fp16": "float16 for GPUs",
    "bf16": "bfloat16 for GPUs",
}


@click.command("info")
@click.argument("model", default="default")
def command(model: str) -> None:
    """Describe MODEL, an exported model folder or "default", the model that ships with this package."""
    from encoder_tools.model.embedding_space import read_space
    from encoder_tools.model.model_folder import ModelFolder
    from encoder_tools.model.shipped import model_path
    from encoder_tools.runtime.manifest import EXACT, Manifest

    folder = ModelFolder.open(model_path(model))
    manifest = Manifest.read(folder)
    manifest.check_fresh(folder)
    for variant in manifest.graphs:
        manifest.graph_path(folder, variant, verify=True)
    click.echo(f"folder       {folder.path}")
    click.echo(f"pipeline     {' > '.join(module.kind for module in folder.modules)}")
    click.echo(f"dimensions   {folder.dim}")
    click.echo(f"max length   {f'{folder.max_length} tokens' if folder.max_length else 'no limit'}")
    for name, text in folder.prompts.prompts.items():
        click.echo(f"prompt       {name}: {text!r}")
    for name in folder.prompts.unused():
        click.echo(
            f'note         encode_document uses no prompt, as in sentence-transformers; ask for "{name}" by name'
        )
    space = read_space(folder.path, manifest.fingerprint, folder.path.resolve().name)
    if space.agreement is not None:
        click.echo(f"space        that of {space.name} ({space.root}): {space.agreement}")
    for variant, graph in manifest.graphs.items():
        how = (
            f"fp32 arithmetic, weights stored as {graph.stored_weights}"
            if variant == EXACT
            else _APPROXIMATE.get(variant, variant)
        )
        click.echo(f"{variant:<12} {graph.file}: {how}")
        click.echo(
            f"{'':<12} against torch: worst difference {graph.max_abs_difference:.1e}, lowest cosine "
            f"{graph.min_cosine:.6f}, mean {graph.mean_cosine:.6f}"
        )
        if graph.half is not None:
            kept = f", {len(graph.half.islands)} nodes of large numbers" if graph.half.islands else ""
            click.echo(
                f"{'':<12} largest number {graph.half.peak:.3g}, scaled by 2^-{graph.half.exponent}; in float32: "
                f"{graph.half.in_float32}{kept}"
            )
        if graph.int8 is not None:
            click.echo(f"{'':<12} {graph.int8.scheme}: {', '.join(graph.int8.otherwise) or 'all layers'}")
        if graph.padding_difference is not None:
            kept = "" if manifest.pads(variant) else "; so texts of one length are encoded together, without padding"
            click.echo(
                f"{'':<12} a text alone against the same in a padded batch: worst difference "
                f"{graph.padding_difference:.1e}, lowest cosine {graph.padding_min_cosine or 0:.6f}{kept}"
            )
        click.echo(f"{'':<12} fingerprint {manifest.fingerprint_of(variant)}")
