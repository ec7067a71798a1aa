"""Peak memory of ``extract`` on a checkpoint whose decoder and vision tower are larger than its encoder.

    python benchmarks/extract_memory.py [--layers 18]

A seeded bf16 T5Gemma 2 is written to disk. Then, each in a process of its own: ``extract`` with its proof; a process
that imports every module that the extraction had imported, and no other (the floor); and what one writes by hand: load
the whole model with transformers, save its encoder. The peak is the kernel's high-water mark of resident memory
(VmHWM), which counts the pages of mapped files too. The bound is (extract - floor) <= 1.3 times the encoder's bytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import click

LIMIT = 1.3
RESULT = Path(__file__).parent / "results" / "extract_memory.json"
_REPOSITORY = Path(__file__).parent.parent
_ROWS = 65_536

_PEAK = """
import json, sys
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
print("\\n" + json.dumps([peak, sorted(sys.modules)]))
"""
_OURS = "import sys\nfrom encoder_tools.extraction import extract\nextract(sys.argv[1], sys.argv[2])\n" + _PEAK
_FLOOR = (
    """
import contextlib, importlib, sys
for name in open(sys.argv[1]).read().split():
    with contextlib.suppress(Exception):  # a few cannot be imported by themselves; they weigh nothing
        importlib.import_module(name)
"""
    + _PEAK
)
_BY_HAND = (
    """
import sys
from transformers import T5Gemma2ForConditionalGeneration
model = T5Gemma2ForConditionalGeneration.from_pretrained(sys.argv[1], dtype="auto")
model.get_encoder().save_pretrained(sys.argv[2])
"""
    + _PEAK
)


class Run(NamedTuple):
    """What a measured process says.

    :ivar peak: bytes of resident memory at the highest.
    :ivar modules: that it had imported.
    """

    peak: int
    modules: list[str]


def make_checkpoint(folder: Path, layers: int) -> None:
    """Write a seeded bf16 T5Gemma 2 checkpoint in the widths of the 270M model."""
    import torch
    import transformers

    sys.path[:0] = [str(_REPOSITORY), str(_REPOSITORY / "tests")]
    make_tiny = import_module("tiny").make_checkpoint

    make_tiny("t5gemma2", folder)  # for its tokenizer
    text = {
        "vocab_size": _ROWS,
        "hidden_size": 640,
        "intermediate_size": 2048,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "sliding_window": 512,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 12,
        "image_size": 896,
        "patch_size": 14,
    }
    config = transformers.T5Gemma2Config(encoder={"text_config": text, "vision_config": vision}, decoder=text)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    model = transformers.T5Gemma2ForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder, max_shard_size="300MB")
    (folder / "model.safetensors").unlink()  # the tiny model's


def run(code: str, *arguments: str) -> Run:
    """Run a program in a process of its own."""
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(result.stderr)
    return Run(*json.loads(result.stdout.splitlines()[-1]))


def measure(folder: Path, layers: int) -> dict[str, Any]:
    """The figures, in bytes where they say so."""
    checkpoint, names = folder / "checkpoint", folder / "modules"
    make_checkpoint(checkpoint, layers)
    ours = run(_OURS, str(checkpoint), str(folder / "ours"))
    names.write_text("\n".join(ours.modules), encoding="utf-8")
    floor = run(_FLOOR, str(names))
    by_hand = run(_BY_HAND, str(checkpoint), str(folder / "by-hand"))
    encoder = int(json.loads((folder / "ours" / "extraction.json").read_text(encoding="utf-8"))["kept_bytes"])
    return {
        "checkpoint_bytes": sum(file.stat().st_size for file in checkpoint.glob("*.safetensors")),
        "encoder_bytes": encoder,
        "import_floor_bytes": floor.peak,
        "extract_peak_bytes": ours.peak,
        "by_hand_peak_bytes": by_hand.peak,
        "extract_above_floor_over_encoder": round((ours.peak - floor.peak) / encoder, 3),
        "by_hand_above_floor_over_encoder": round((by_hand.peak - floor.peak) / encoder, 3),
        "limit": LIMIT,
        "versions": {name: version(name) for name in ("torch", "transformers", "safetensors")},
    }


@click.command()
@click.option("--layers", default=18, show_default=True, help="Layers of the encoder and of the decoder.")
def main(layers: int) -> None:
    """Measure, print, and write the result; exit 1 if the bound is exceeded."""
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), layers)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    sys.exit(0 if result["extract_above_floor_over_encoder"] <= LIMIT else 1)


if __name__ == "__main__":
    main()
