"""The GGUF file: metadata, tokens and tensors of a Gemma 3 text encoder, as llama.cpp's ``gemma-embedding`` takes them.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, and llama.cpp's ``src/models/gemma-embedding.cpp``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from encoder_tools.aliases import Log
from encoder_tools.errors import ExportError, InputError
from encoder_tools.extras import require_extra
from encoder_tools.gguf_export.gguf_vocabulary import GgufVocabulary, gguf_vocabulary
from encoder_tools.io.files import read_json, replacing_by_name
from encoder_tools.model.model_folder import ModelFolder, pooling_modes
from encoder_tools.model.tensor_files import TensorLocation, as_float32, chunks, read_header

GgufType = Literal["f32", "f16", "q8_0"]
_ARCHITECTURE = "gemma-embedding"
_POOLING = {"mean": 1, "cls": 2, "lasttoken": 3}
_BLOCK = 32  # weights that share a scale in q8_0
_LARGEST = 65_504.0
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_WHOLE = {"embed_tokens": "token_embd", "norm": "output_norm"}


class GgufReport(NamedTuple):
    """What was written.

    :ivar file: the GGUF file.
    :ivar tensors: how many it has.
    :ivar size: bytes.
    """

    file: Path
    tensors: int
    size: int


def export_gguf(
    model: str | Path, out: str | Path | None = None, *, dtype: GgufType = "f32", log: Log = lambda _: None
) -> GgufReport:
    """Write a Gemma 3 text encoder (what ``extract`` makes of T5Gemma 2) as a GGUF file for llama.cpp and Ollama.

    Pooling and a dense layer go in too; llama.cpp normalizes by itself. Prompts are not part of the format: put them
    before the text.

    :param model: Sentence Transformers folder.
    :param out: file to write; by default ``model-f32.gguf`` in the folder, named after ``dtype``.
    :param dtype: of matrices: "f32", "f16", or "q8_0" (int8 with a scale for 32 weights). Vectors stay float32.
    :param log: called with one line of text at each step.
    :raises ExportError: if llama.cpp would compute something else.
    :raises FileMissingError: if the folder or a file of it is missing.
    :raises MissingExtraError: if the extra ``gguf`` is not installed.
    :raises SaveError: if the disk is full.

    Example:
        >>> from encoder_tools.gguf_export import export_gguf
        >>> export_gguf("model", dtype="q8_0").file  # doctest: +SKIP
        PosixPath('model/model-q8_0.gguf')
    """
    require_extra("gguf", "gguf")
    import gguf

    if dtype not in get_args(GgufType):
        raise InputError(f"dtype={dtype!r}; expected one of {', '.join(get_args(GgufType))}.")
    folder = ModelFolder.open(model)
    config = dict(folder.config)
    _check_architecture(folder, config)
    dense, pooling = _head(folder)
    tensors = _tensors(folder, config, dense)
    table = next(tensor for tensor in tensors if tensor.name == "token_embd.weight")
    vocabulary = gguf_vocabulary(read_json(folder.tokenizer_file), config, table.source.shape[0])
    target = Path(out) if out is not None else folder.path / f"model-{dtype}.gguf"
    log(f"writing {len(tensors)} tensors to {target}")
    with replacing_by_name(target) as temporary, closing(gguf.GGUFWriter(temporary, _ARCHITECTURE)) as writer:
        _write_metadata(writer, folder, config, pooling, dense)
        _write_vocabulary(writer, vocabulary)
        for tensor in tensors:
            writer.add_tensor_info(tensor.name, *tensor.layout(dtype))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            writer.write_tensor_data(tensor.encoded(dtype))
    return GgufReport(target, len(tensors), target.stat().st_size)


class _Tensor(NamedTuple):
    """One tensor: where it is, and by what it is changed.

    :ivar plus: is added to it; ``factor`` multiplies it after.
    """

    name: str
    source: TensorLocation
    plus: float = 0.0
    factor: float = 1.0

    def kind(self, dtype: GgufType) -> GgufType:
        """What it is stored as: vectors in float32, and in f16 what has rows of no whole blocks."""
        if len(self.source.shape) < 2:
            return "f32"
        return "f16" if dtype == "q8_0" and self.source.shape[-1] % _BLOCK else dtype

    def layout(self, dtype: GgufType) -> tuple[Any, ...]:
        """Shape, numpy type, bytes and GGUF type, as ``add_tensor_info`` takes them."""
        import gguf

        count, kind = math.prod(self.source.shape), self.kind(dtype)
        if kind == "q8_0":
            packed = count // _BLOCK * (_BLOCK + 2)
            shape = (*self.source.shape[:-1], self.source.shape[-1] // _BLOCK * (_BLOCK + 2))
            return shape, np.dtype(np.uint8), packed, gguf.GGMLQuantizationType.Q8_0
        own = np.dtype(np.float16 if kind == "f16" else np.float32)
        return self.source.shape, own, count * own.itemsize

    def encoded(self, dtype: GgufType) -> NDArray[Any]:
        """Its numbers as they are stored.

        :raises ExportError: if a number is too large for f16.
        """
        import gguf

        stored = as_float32(b"".join(chunks(self.source)), self.source).reshape(self.source.shape)
        array = (stored + np.float32(self.plus)) * np.float32(self.factor)
        kind = self.kind(dtype)
        if kind == "f32":
            return np.ascontiguousarray(array, dtype=np.float32)
        if not float(np.abs(array).max(initial=0.0)) <= _LARGEST:
            raise ExportError(f"{self.source.name} has numbers beyond {_LARGEST:g}, the largest of f16. Use f32.")
        if kind == "f16":
            return array.astype(np.float16)
        packed: NDArray[Any] = gguf.quants.quantize(array, gguf.GGMLQuantizationType.Q8_0)
        return packed


def _check_architecture(folder: ModelFolder, config: Mapping[str, Any]) -> None:
    """:raises ExportError: if it is no encoder in the Gemma 3 layout that llama.cpp computes."""
    kind = config.get("model_type")
    if kind != "gemma3_text" or not config.get("use_bidirectional_attention"):
        raise ExportError(
            f"{folder.path} is {kind!r}; GGUF is written for encoders in the Gemma 3 layout, which "
            "encoder-tools extract makes of T5Gemma 2. Export it to ONNX."
        )
    expected = {
        "hidden_activation": ("gelu_pytorch_tanh",),
        "attention_bias": (False, None),
        "attn_logit_softcapping": (None,),
    }
    for name, values in expected.items():
        if config.get(name) not in values:
            raise ExportError(f"{folder.path}: {name} is {config.get(name)!r}; llama.cpp computes {values[0]!r}.")
    local = (config.get("rope_parameters") or {}).get("sliding_attention") or {}
    if local.get("rope_type", "default") != "default":
        raise ExportError(f"{folder.path}: rotations of sliding attention are scaled, which llama.cpp does not.")


def _head(folder: ModelFolder) -> tuple[TensorLocation | None, int]:
    """The dense layer's matrix, and llama.cpp's number of the pooling.

    :raises ExportError: if the modules behind the encoder are not those that llama.cpp has.
    """
    kinds = [module.kind for module in folder.modules]
    allowed = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Dense"])
    if [kind for kind in kinds if kind != "Normalize"] not in allowed:
        raise ExportError(
            f"{folder.path} is {' > '.join(kinds)}; llama.cpp has pooling, one dense layer, normalization."
        )
    modes = pooling_modes(folder.modules[1].config)
    if len(modes) != 1 or modes[0] not in _POOLING:
        raise ExportError(f"{folder.path} pools by {' and '.join(modes)}; llama.cpp by {', '.join(_POOLING)}.")
    dense = next((module for module in folder.modules if module.kind == "Dense"), None)
    if dense is None:
        return None, _POOLING[modes[0]]
    own = {tensor.name: tensor for tensor in read_header(dense.folder / "model.safetensors")}
    linear = "Identity" in str(dense.config.get("activation_function", "Identity"))
    if not linear or "linear.bias" in own:
        raise ExportError(f"{folder.path}: the dense layer has a bias or an activation, which llama.cpp has not.")
    return own["linear.weight"], _POOLING[modes[0]]


def _tensors(folder: ModelFolder, config: Mapping[str, Any], dense: TensorLocation | None) -> list[_Tensor]:
    """Every tensor of the model under llama.cpp's name.

    :raises ExportError: if one has no place there.
    """
    body = [file for file in folder.weight_files if dense is None or file != dense.file]
    # llama.cpp divides scores by the root of the head's width; the norm of queries takes the rest
    scale = math.sqrt(config["head_dim"] / config.get("query_pre_attn_scalar", config["head_dim"]))
    made = []
    for location in (tensor for file in body for tensor in read_header(file)):
        name, is_norm = _name_of(location.name), location.name.endswith("norm.weight")
        if name is None:
            raise ExportError(f"{folder.path} has the tensor {location.name!r}, which llama.cpp's encoder has not.")
        factor = scale if name.endswith("attn_q_norm.weight") else 1.0
        made.append(_Tensor(name, location, float(is_norm), factor))  # Gemma's norms multiply by 1 + w
    expected = len(_WHOLE) + len(_LAYER) * int(config["num_hidden_layers"])
    if len(made) != expected:
        raise ExportError(f"{folder.path} has {len(made)} tensors, expected {expected}. Extract it again.")
    return [*made, *([_Tensor("dense_2.weight", dense)] if dense is not None else [])]


def _name_of(name: str) -> str | None:
    parts = name.removeprefix("model.").removesuffix(".weight").split(".", 2)
    if parts[0] == "layers" and len(parts) == 3 and parts[2] in _LAYER:
        return f"blk.{parts[1]}.{_LAYER[parts[2]]}.weight"
    return f"{_WHOLE[parts[0]]}.weight" if len(parts) == 1 and parts[0] in _WHOLE else None


def _write_metadata(
    writer: Any, folder: ModelFolder, config: Mapping[str, Any], pooling: int, dense: TensorLocation | None
) -> None:
    import gguf

    ropes = config.get("rope_parameters") or {}
    everywhere, local = ropes.get("full_attention") or {}, ropes.get("sliding_attention") or {}
    writer.add_name(folder.path.resolve().name)
    writer.add_context_length(folder.max_length or config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_sliding_window(config["sliding_window"])
    writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config["layer_types"]])
    writer.add_rope_freq_base(everywhere.get("rope_theta", config.get("rope_theta", 1e6)))
    writer.add_rope_freq_base_swa(local.get("rope_theta", config.get("rope_local_base_freq", 1e4)))
    kind = everywhere.get("rope_type", "default")
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(everywhere["factor"])
    elif kind != "default":
        raise ExportError(f"{folder.path}: rotations are of the type {kind!r}; GGUF is written for default and linear.")
    writer.add_pooling_type(gguf.PoolingType(pooling))
    if dense is not None:
        outputs, inputs = dense.shape
        writer.add_dense_features_dims("dense_2", inputs, outputs)
        writer.add_uint32(f"{_ARCHITECTURE}.embedding_length_out", outputs)


def _write_vocabulary(writer: Any, vocabulary: GgufVocabulary) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    writer.add_add_space_prefix(False)
    for name, number in vocabulary.special.items():
        getattr(writer, f"add_{name}_token_id")(number)
    for name, adds in vocabulary.adds.items():
        getattr(writer, f"add_add_{name}_token")(adds)
