"""``encoder-tools export``: a Sentence Transformers folder to ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click


@click.command("export")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["onnx", "gguf"]),
    default="onnx",
    show_default=True,
    help="gguf: a file for llama.cpp and Ollama, of encoders in the Gemma 3 layout.",
)
@click.option(
    "--gguf-type",
    type=click.Choice(["f32", "f16", "q8_0"]),
    default="f32",
    show_default=True,
    help="Of the matrices in a GGUF file.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp16", "bf16"]),
    help="Also write a variant in half precision for GPUs, scaled so that nothing overflows.",
)
@click.option(
    "--quantize",
    type=click.Choice(["qint8"]),
    help="Also write the variant qint8, which computes in int8: smaller and faster, but approximate.",
)
@click.option(
    "--store-weights",
    type=click.Choice(["fp32", "fp16", "bf16", "int8"]),
    default="fp32",
    show_default=True,
    help="How model.onnx stores its weights; it computes in fp32. int8 suits models trained for it.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, min_open=True),
    default=1e-5,
    show_default=True,
    help="Largest absolute difference to torch between components of unit vectors.",
)
@click.option(
    "--min-cosine",
    type=click.FloatRange(max=1),
    default=0.9999,
    show_default=True,
    help="Lowest cosine to torch of a variant in half precision.",
)
def command(
    model: Path,
    form: str,
    gguf_type: Literal["f32", "f16", "q8_0"],
    precision: Literal["fp16", "bf16"] | None,
    quantize: Literal["qint8"] | None,
    store_weights: Literal["fp32", "fp16", "bf16", "int8"],
    tolerance: float,
    min_cosine: float,
) -> None:
    """Export MODEL, a Sentence Transformers or CrossEncoder folder, to MODEL/onnx/model.onnx.

    Pooling, dense layers and normalization go into the graph. It is compared with torch over a battery of texts; above
    the tolerance nothing is written. Needs the extra "train".
    """
    if form == "gguf":
        _export_gguf(model, gguf_type, other=bool(precision or quantize or store_weights != "fp32"))
        return
    from encoder_tools.extras import require_extra

    require_extra("train", "torch", "sentence_transformers", "onnx", "onnxscript", "optimum")
    from encoder_tools.onnx_export import export
    from encoder_tools.onnx_export.cross_encoder_export import export_cross_encoder, is_cross_encoder

    if is_cross_encoder(model):
        if precision or quantize or store_weights != "fp32":
            raise click.UsageError(
                "--precision, --quantize and --store-weights are for embedding models; MODEL is a cross-encoder."
            )
        made = export_cross_encoder(model, tolerance=tolerance, log=click.echo)
        click.echo(f"{made.folder / 'model.onnx'}: {made.labels} logits per pair; serve it with --reranker {model}")
        return
    report = export(
        model,
        precision=precision,
        quantize=quantize,
        store_weights=store_weights,
        tolerance=tolerance,
        min_cosine=min_cosine,
        log=click.echo,
    )
    for name, size in report.sizes.items():
        click.echo(f"{report.folder / name}  {size / 1e6:.2f} MB")
    click.echo(f"fingerprint {report.manifest.fingerprint}")


def _export_gguf(model: Path, dtype: Literal["f32", "f16", "q8_0"], *, other: bool) -> None:
    """:raises click.UsageError: if options of the other format were given."""
    if other:
        raise click.UsageError("--precision, --quantize and --store-weights are for ONNX; --gguf-type is for GGUF.")
    from encoder_tools.gguf_export import export_gguf

    made = export_gguf(model, dtype=dtype, log=click.echo)
    click.echo(f"{made.file}  {made.size / 1e6:.2f} MB")
