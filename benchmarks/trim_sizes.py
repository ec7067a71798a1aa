"""What a smaller vocabulary saves, on a model of T5Gemma 2 270M's shape: files, time to open, memory, before and after.

    python -m benchmarks.trim_sizes --texts sentences.tsv.gz [--keep 32000]

The model is random; its tokenizer is Gemma's kind of BPE with byte fallback, learned from the texts up to 262,144
pieces. Two thirds of the texts are the corpus that it is trimmed for. Of the rest, texts of the same kinds that
trimming never saw, the share is told that splits differently. The result is ``benchmarks/results/trim_sizes.json``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.serve_startup import machine
from benchmarks.true_shapes import VOCABULARY, write_checkpoint
from benchmarks.true_sizes import OPEN
from encoder_tools.io.files import write_json
from encoder_tools.io.rows import read_rows

RESULT = Path(__file__).parent / "results" / "trim_sizes.json"
_SPECIALS = ["<pad>", "<eos>", "<bos>", "<unk>"]
_OPENED = 3  # times; the fastest counts
_FRESH = 20_000


def gemma_tokenizer(texts: Sequence[str], size: int) -> Any:
    """A BPE over whole texts, as Gemma's: spaces are characters, bytes stand in for characters that it lacks."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))  # noqa: S106 -- a piece
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # as words are, so that learning takes minutes
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[*_SPECIALS, *pieces], show_progress=False)
    made.train_from_iterator(texts, trainer)
    content = json.loads(made.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] not in pieces]
    made = Tokenizer.from_str(json.dumps(content))
    made.decoder = decoders.Replace("▁", " ")
    marks = [(mark, made.token_to_id(mark)) for mark in ("<bos>", "<eos>")]
    made.post_processor = processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=marks)
    return made


def figures_of(model: Path) -> dict[str, float]:
    """Bytes of the export and of the tokenizer, seconds to open, resident bytes, texts a second."""
    opened = []
    for _ in range(_OPENED):
        begun = subprocess.run([sys.executable, "-c", OPEN, str(model)], capture_output=True, text=True, check=True)
        opened.append(json.loads(begun.stdout.splitlines()[-1]))
    seconds, resident, peak, rate = min(opened)
    return {
        "graph_bytes": sum(file.stat().st_size for file in (model / "onnx").glob("model.onnx*")),
        "tokenizer_bytes": (model / "tokenizer.json").stat().st_size,
        "open_seconds": round(seconds, 2),
        "resident_bytes": resident,
        "peak_bytes": peak,
        "texts_per_second": round(rate, 1),
    }


def measure(file: Path, keep: int, work: Path) -> dict[str, Any]:
    """Both models, and what was cut."""
    import transformers
    from tokenizers import Tokenizer

    from encoder_tools import export, extract, trim

    texts = [row["text"] for row in read_rows(file)]
    fresh, corpus = texts[: len(texts) // 3], texts[len(texts) // 3 :]
    begun = time.perf_counter()
    tokenizer = gemma_tokenizer(texts, VOCABULARY)
    click.echo(f"a tokenizer of {tokenizer.get_vocab_size():,} pieces in {time.perf_counter() - begun:.0f} s")
    write_checkpoint("t5gemma2-270m", work / "checkpoint", vision=False, decoder_layers=1)
    for old in (work / "checkpoint").glob("tokenizer*"):
        old.unlink()
    names = {f"{mark.strip('<>')}_token": mark for mark in _SPECIALS}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(work / "checkpoint")
    extract(work / "checkpoint", work / "model")
    (work / "corpus.txt").write_text("\n".join(text.replace("\n", " ") for text in corpus), encoding="utf-8")
    begun = time.perf_counter()
    report = trim(work / "model", work / "small", corpus=[work / "corpus.txt"], keep=keep, log=click.echo)
    seconds = time.perf_counter() - begun
    result: dict[str, Any] = {"trim": report.to_json() | {"seconds": round(seconds, 1)}}
    for name in ("model", "small"):
        export(work / name)
        result[name] = figures_of(work / name)
    before, after = (
        Tokenizer.from_file(str(work / name / "tokenizer.json")).encode_batch(fresh[:_FRESH])
        for name in ("model", "small")
    )
    differs = [one.tokens != other.tokens for one, other in zip(before, after, strict=True)]
    return result | {"fresh_texts": len(differs), "fresh_split_differently": sum(differs) / len(differs)}


@click.command()
@click.option("--texts", type=click.Path(path_type=Path, exists=True), required=True, help="TSV with a column text.")
@click.option("--keep", default=32_000, show_default=True, help="Pieces that stay.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the models go; by default a temporary folder.")
def main(texts: Path, keep: int, folder: Path | None) -> None:
    """Measure, and write the result."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        result = measure(texts, keep, Path(work)) | {"machine": machine()}
    write_json(RESULT, result)
    click.echo(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
