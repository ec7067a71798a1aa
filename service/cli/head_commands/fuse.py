"""``head fuse``: a head and its model as one ONNX graph."""

from __future__ import annotations

from pathlib import Path

import click

from service.cli.options import MODEL, PATH


@click.command("fuse", short_help="Write a head and its model as one graph.")
@click.argument("folder", type=PATH)
@click.argument("out", type=PATH)
@MODEL
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def fuse(folder: Path, out: Path, model: str, overwrite: bool) -> None:
    """Write the head in FOLDER and its model as one graph, OUT/model.onnx: tokens in, vectors and probabilities out.

    Needs the extra "train".
    """
    from encoder_tools.extras import require_extra

    require_extra("train", "onnx")
    from encoder_tools import OnnxEncoder
    from heads import load_head
    from service.workflows.fuse import fuse as fused

    encoder = OnnxEncoder(model)
    worst = fused(encoder, load_head(folder, encoder=encoder), out, overwrite=overwrite)
    click.echo(f"wrote {out}: model.onnx, tokenizer.json, labels.json; probabilities differ by {worst:.1e} at most")
