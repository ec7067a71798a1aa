"""``encoder-tools unpack``: the plain Sentence Transformers folder behind a model that ships as ONNX alone."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("unpack")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--model", default="default", show_default=True, help='Exported model folder, or "default": the one that ships.'
)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def command(out: Path, model: str, overwrite: bool) -> None:
    """Write OUT, a folder with float weights that SentenceTransformer(OUT) loads, from a packed export.

    For models exported with --store-weights int8, such as the one that ships. Needs the extra "train".
    """
    from encoder_tools.extras import require_extra

    require_extra("train", "onnx")
    from encoder_tools.onnx_export.unpack import unpack

    count = unpack(model, out, overwrite=overwrite)
    click.echo(f"wrote {out}: {count} tensors; SentenceTransformer({str(out)!r}) loads it")
