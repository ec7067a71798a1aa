"""Peak memory of ``extract`` on a checkpoint whose decoder and vision tower are much larger than its encoder.

    python benchmarks/extract_memory.py [--megabytes 300]

Two processes are measured by the kernel's high-water mark (VmHWM): ``extract``, and one that only imports what it
imports (the floor). The peer is what one writes by hand: load the whole model with transformers, save its encoder.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click

RESULT = Path(__file__).parent / "results" / "extract_memory.json"
_MEGABYTE = 1_000_000

_PEAK = """
def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
"""
_IMPORTS = """
import accelerate, sentence_transformers, torch, transformers
import encoder_tools.extract.account, encoder_tools.extract.copying, encoder_tools.extract.extractor
import encoder_tools.extract.proof, encoder_tools.extract.tokenizer
from transformers.models.t5gemma2 import modeling_t5gemma2
from transformers.models.gemma3 import modeling_gemma3
from transformers import AutoConfig, AutoTokenizer, T5Gemma2ForConditionalGeneration
"""
_FLOOR = _PEAK + _IMPORTS + "print(peak())"
_OURS = (
    _PEAK + "import sys\nfrom encoder_tools.extract import extract\nextract(sys.argv[1], sys.argv[2])\nprint(peak())"
)
_BY_HAND = (
    _PEAK
    + _IMPORTS
    + """
import sys
model = T5Gemma2ForConditionalGeneration.from_pretrained(sys.argv[1], dtype="auto")
model.get_encoder().save_pretrained(sys.argv[2])
print(peak())
"""
)


def make_checkpoint(folder: Path, megabytes: int) -> int:
    """Write a seeded bf16 T5Gemma 2 checkpoint; return the bytes of its text encoder."""
    import torch
    import transformers

    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from tiny import make_checkpoint as make_tiny

    hidden, layers = 512, 12
    rows = max(1000, (megabytes * _MEGABYTE // 2 - layers * 3_700_000) // hidden)
    make_tiny("t5gemma2", folder)  # for its tokenizer
    text = {
        "vocab_size": rows,
        "hidden_size": hidden,
        "intermediate_size": 2048,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 128,
        "sliding_window": 512,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 24,
    }
    config = transformers.T5Gemma2Config(
        encoder={
            "text_config": text,
            "vision_config": {**vision, "intermediate_size": 3072, "image_size": 896, "patch_size": 14},
        },
        decoder={**text, "num_hidden_layers": 3 * layers},
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    model = transformers.T5Gemma2ForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    return sum(tensor.numel() * 2 for tensor in model.get_encoder().text_model.parameters())


def measure(code: str, *arguments: str) -> int:
    """Peak resident memory of a Python process, in bytes."""
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(result.stderr)
    return int(result.stdout.split()[-1])


@click.command()
@click.option("--megabytes", default=300, show_default=True, help="Size of the encoder.")
def main(megabytes: int) -> None:
    """Measure, print, and write the result."""
    with tempfile.TemporaryDirectory() as place:
        checkpoint = Path(place) / "checkpoint"
        encoder = make_checkpoint(checkpoint, megabytes)
        whole = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
        floor = measure(_FLOOR)
        ours = measure(_OURS, str(checkpoint), f"{place}/ours")
        by_hand = measure(_BY_HAND, str(checkpoint), f"{place}/by-hand")
    result = {
        "checkpoint_bytes": whole,
        "encoder_bytes": encoder,
        "import_floor_bytes": floor,
        "extract_peak_bytes": ours,
        "by_hand_peak_bytes": by_hand,
        "extract_above_floor_over_encoder": round((ours - floor) / encoder, 3),
        "by_hand_above_floor_over_encoder": round((by_hand - floor) / encoder, 3),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
