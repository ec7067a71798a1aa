"""Random checkpoints of the published architectures and sizes, written shard by shard so that memory stays small.

The weights of T5Gemma 2 cannot be had here; shapes, tensor names, dtypes and tied tables are those of the real ones.
"""

from __future__ import annotations

import json
import math
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).parent.parent
VOCABULARY = 262_144
_SHARD = 1 << 30  # bytes
_VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 896,
    "patch_size": 14,
}
_GEMMA = {
    "t5gemma2-270m": (640, 2048, 18, 4, 1, 256, 512),
    "t5gemma2-1b": (1152, 6912, 26, 4, 1, 256, 512),
    "t5gemma2-4b": (2560, 10240, 34, 8, 4, 256, 1024),
}
_T5 = {"t5-base": (768, 3072, 12, 12), "t5-large": (1024, 4096, 24, 16)}
SHAPES = (*_GEMMA, *_T5)


def write_checkpoint(shape: str, folder: Path, *, vision: bool = True, decoder_layers: int | None = None) -> int:
    """Write a full encoder-decoder checkpoint with random weights and the tests' small tokenizer.

    :param shape: one of :data:`SHAPES`.
    :param vision: with the vision tower at its true size (417 million numbers); else a small one.
    :param decoder_layers: other than the encoder's, to save disk; the decoder is left behind anyway.
    :return: bytes of the weights.
    """
    import torch
    from accelerate import init_empty_weights

    sys.path[:0] = [str(_REPOSITORY), str(_REPOSITORY / "tests")]
    import_module("tiny").make_checkpoint("t5gemma2" if shape in _GEMMA else "t5", folder)  # for its tokenizer
    (folder / "model.safetensors").unlink()
    dtype = torch.bfloat16 if shape in _GEMMA else torch.float32
    with init_empty_weights(include_buffers=False):
        model = _t5gemma2(shape, vision, decoder_layers) if shape in _GEMMA else _t5(shape)
    config = model.config
    config.dtype = dtype
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    tied = set(model.all_tied_weights_keys)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items() if name not in tied}
    return _write_shards(shapes, folder, dtype)


def _write_shards(shapes: dict[str, tuple[int, ...]], folder: Path, dtype: Any) -> int:
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    width = torch.empty(0, dtype=dtype).element_size()
    groups: list[list[str]] = [[]]
    size = 0
    for name, shape in shapes.items():
        bytes_ = math.prod(shape) * width
        if groups[-1] and size + bytes_ > _SHARD:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += bytes_
    files: dict[str, str] = {}
    for number, names in enumerate(groups, 1):
        file = f"model-{number:05}-of-{len(groups):05}.safetensors"
        save_file(
            {name: _random(name, shapes[name], dtype, generator) for name in names}, folder / file, {"format": "pt"}
        )
        files |= dict.fromkeys(names, file)
    total = sum(math.prod(shape) * width for shape in shapes.values())
    index = {"metadata": {"total_size": total}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return total


def _random(name: str, shape: tuple[int, ...], dtype: Any, generator: Any) -> Any:
    """Numbers of the size that a trained model has: matrices by their fan-in, norms about their neutral value."""
    import torch

    if len(shape) < 2:
        neutral = 0.0 if "gemma" in name or "layernorm" in name else 1.0
        return (neutral + 0.1 * torch.randn(shape, generator=generator)).to(dtype)
    scale = 0.03 if "embed" in name or "shared" in name else shape[-1] ** -0.5
    made = torch.empty(shape, dtype=dtype)
    for rows in range(0, shape[0], 8192):  # fp32 of the whole word table would be the largest thing in memory
        part = made[rows : rows + 8192]
        part.copy_(torch.randn(part.shape, generator=generator) * scale)
    return made


def _t5gemma2(shape: str, vision: bool, decoder_layers: int | None) -> Any:
    import transformers

    hidden, inner, layers, heads, key_heads, width, window = _GEMMA[shape]
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "head_dim": width,
        "query_pre_attn_scalar": width,
        "sliding_window": window,
        "max_position_embeddings": 131_072,
    }
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    tower = _VISION if vision else {**_VISION, **small, "image_size": 16, "patch_size": 4}
    decoder = {**text, "num_hidden_layers": decoder_layers or layers}
    config = transformers.T5Gemma2Config(encoder={"text_config": text, "vision_config": tower}, decoder=decoder)
    return transformers.T5Gemma2ForConditionalGeneration(config)


def _t5(shape: str) -> Any:
    import transformers

    width, inner, layers, heads = _T5[shape]
    config = transformers.T5Config(
        vocab_size=32_128, d_model=width, d_ff=inner, d_kv=64, num_layers=layers, num_heads=heads
    )
    return transformers.T5ForConditionalGeneration(config)
