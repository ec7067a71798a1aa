"""A Sentence Transformers folder on disk, read without torch; its files are untrusted.

Everything the runtime needs to know is read from the files that sentence-transformers itself reads, so that the two
cannot disagree: ``modules.json``, each module's ``config.json``, ``config_sentence_transformers.json`` for prompts, and
``sentence_bert_config.json`` or ``tokenizer_config.json`` for the maximum length.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError
from encoder_tools.io.files import read_json, read_json_as, sha256_of
from encoder_tools.model.positions import most_positions
from encoder_tools.model.prompts import PromptSet

EXPORT_FOLDER = "onnx"
_NO_LIMIT = 1_000_000  # transformers writes 1e30 for "no maximum length"; nothing real is above a million tokens
_VOLATILE_KEYS = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "__version__", "architectures")
_KNOWN_MODULES = ("Pooling", "Dense", "Normalize", "LayerNorm", "Dropout")
_UNSUPPORTED_SETTINGS = ("query_length", "document_length", "query_expansion", "do_lower_case")
_VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
_OTHER_MODELS = {
    "StaticEmbedding": "is a static model: a table of word vectors without a transformer. Serve it with "
    "sentence-transformers or model2vec; there is nothing to export.",
    "Router": "sends queries and documents through different modules (Router). Export each of its routes as a model of "
    "its own.",
    "Asym": "sends queries and documents through different modules (Asym). Export each of its routes as a model of its "
    "own.",
    "MLMTransformer": "is a sparse model (SPLADE): its vectors have one component for each word. encoder-tools serves "
    "dense vectors; use sentence-transformers' SparseEncoder.",
    "CLIPModel": "encodes images and texts (CLIP). encoder-tools serves text models.",
    "BoW": "counts words (BoW), without a transformer. Its vectors need sentence-transformers.",
    "WordEmbeddings": "averages word vectors, without a transformer. Its vectors need sentence-transformers.",
}
_POOLING_FLAGS = "pooling_mode_"  # one boolean a mode: the format of sentence-transformers before 5.7


@dataclass(frozen=True)
class ModuleSpec:
    """One module of the pipeline.

    :ivar kind: class name without its package, such as "Pooling".
    :ivar folder: where its files are.
    :ivar config: its parsed ``config.json``; empty if it has none.
    """

    kind: str
    folder: Path
    config: Mapping[str, Any]


@dataclass(frozen=True)
class ModelFolder:
    """A verified Sentence Transformers folder; make one with :meth:`open`.

    :ivar path: the folder.
    :ivar modules: the pipeline in order; the first is the transformer.
    :ivar prompts: prompts by task name.
    :ivar truncate_dim: width that the model's author asks vectors to be cut to, or None.
    :ivar max_length: longest input in tokens, special tokens included; None if the model has no limit.
    :ivar truncation_side: which side of an overlong text is cut.
    """

    path: Path
    config: Mapping[str, Any]
    modules: tuple[ModuleSpec, ...]
    prompts: PromptSet
    truncate_dim: int | None
    max_length: int | None
    truncation_side: str

    @classmethod
    def open(cls, path: str | Path) -> ModelFolder:
        """Read and check a folder.

        :raises FileMissingError: if the folder or one of its files is missing.
        :raises FileCorruptError: if a file is not what it should be.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise FileMissingError(f"{folder} is not a folder. Pass a Sentence Transformers model folder.")
        if not (folder / "modules.json").is_file():
            raise FileMissingError(
                f"{folder} has no modules.json, so it is no Sentence Transformers model. {_way(folder)}"
            )
        modules = _read_modules(folder)
        body = modules[0].folder  # some saved models have it in a folder of its own
        st_config = _read_optional(folder / "config_sentence_transformers.json")
        config = read_json(body / "config.json")
        tokenizer_config = _read_optional(body / "tokenizer_config.json")
        return cls(
            path=folder,
            config=config,
            modules=modules,
            prompts=PromptSet.from_config(st_config),
            truncate_dim=_positive_or_none(st_config.get("truncate_dim"), "truncate_dim"),
            max_length=max_length_of(modules[0].config, tokenizer_config, config),
            truncation_side=truncation_side(tokenizer_config),
        )

    @cached_property
    def dim(self) -> int:
        """Full width of the model's vectors, before any truncation."""
        for module in reversed(self.modules):
            if module.kind == "Dense":
                return _positive(module.config.get("out_features"), module.folder, "out_features")
            if module.kind == "Pooling":
                key = "embedding_dimension" if "embedding_dimension" in module.config else "word_embedding_dimension"
                return _positive(module.config.get(key), module.folder, key) * len(pooling_modes(module.config))
        raise FileCorruptError(
            f"{self.path}/modules.json has no Pooling module, so the model gives no sentence vectors."
        )

    @property
    def normalizes(self) -> bool:
        """Whether the pipeline ends in unit vectors."""
        return self.modules[-1].kind == "Normalize"

    @property
    def body(self) -> Path:
        """Where the transformer's files are."""
        return self.modules[0].folder

    @property
    def export_folder(self) -> Path:
        """Where the ONNX files are or will be."""
        return self.path / EXPORT_FOLDER

    @property
    def tokenizer_file(self) -> Path:
        """The tokenizer of the torch-free runtime: the model's own, or the one that its export had to write."""
        own, exported = self.body / "tokenizer.json", self.export_folder / "tokenizer.json"
        return exported if exported.is_file() and not own.is_file() else own

    @cached_property
    def weight_files(self) -> tuple[Path, ...]:
        """The pipeline's weights, in a fixed order; empty in a folder that ships only ONNX.

        Of each module they are what sentence-transformers loads: its safetensors, or ``pytorch_model.bin`` where there
        are none. The transformer's own must be safetensors.
        """
        folders = dict.fromkeys(module.folder for module in self.modules)
        return tuple(file for folder in folders for file in _weights_in(folder, pickled=folder != self.body))

    @cached_property
    def vocabulary_files(self) -> tuple[Path, ...]:
        """What a tokenizer without ``tokenizer.json`` is made of."""
        if (self.body / "tokenizer.json").is_file():
            return ()
        return tuple(file for name in _VOCABULARIES if (file := self.body / name).is_file())

    def weights_digest(self) -> str:
        """SHA-256 over names and contents of the weight files.

        :raises FileMissingError: if the folder holds no safetensors.
        """
        if not any(file.suffix == ".safetensors" for file in self.weight_files):
            raise FileMissingError(
                f"{self.path} holds no safetensors weights. Save the model with sentence-transformers' save_pretrained."
            )
        digest = hashlib.sha256()
        for file in self.weight_files:
            digest.update(f"{file.relative_to(self.path).as_posix()}:{sha256_of(file)}\n".encode())
        return digest.hexdigest()

    def unsupported(self) -> str | None:
        """Why one graph over token ids cannot give this model's vectors; None if it can."""
        if (self.body / "adapter_config.json").is_file():
            return (
                "is an adapter (PEFT) whose base model lies elsewhere; merge the two first "
                "(PeftModel.merge_and_unload) and save the merged model"
            )
        for module in self.modules[1:]:
            if module.kind not in _KNOWN_MODULES:
                return f"has a module of type {module.kind}; one graph can hold {', '.join(_KNOWN_MODULES)}"
            if module.kind == "Pooling" and module.config.get("include_prompt") is False:
                return "leaves the prompt out of its pooling; train or configure it with include_prompt: true"
        for setting in _UNSUPPORTED_SETTINGS:
            if self.modules[0].config.get(setting):
                return f"sets {setting!r} in sentence_bert_config.json, which a graph of token ids cannot hold"
        return None

    def fingerprint(self, weights_digest: str, tokenizer_file: Path | None = None) -> str:
        """Hash over weights, configuration, tokenizer, maximum length, modules and prompts, 32 hex digits.

        Two folders of the same fingerprint give the same vectors for the same call, up to the parity figure of their
        exports, whatever their version stamps are.

        :param weights_digest: see :meth:`weights_digest`; an export remembers it for folders without the weights.
        :param tokenizer_file: another file than :attr:`tokenizer_file`, for an export that is not in place yet.
        """
        identity = {
            "weights": weights_digest,
            "config": _stable(self.config),
            "tokenizer": sha256_of(tokenizer_file or self.tokenizer_file),
            "length": [self.max_length, self.truncation_side],
            "modules": [[module.kind, _stable(module.config)] for module in self.modules[1:]],
            "prompts": [dict(self.prompts.prompts), self.prompts.default_name],
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def is_classifier(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is of a sequence classifier, as cross-encoders are."""
    names = config.get("architectures")
    return isinstance(names, list) and any(str(name).endswith("ForSequenceClassification") for name in names)


def pooling_modes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Pooling modes of a Pooling module's configuration, in either of sentence-transformers' two formats.

    :raises FileCorruptError: if they are not names.
    """
    if "pooling_mode" in config:
        mode = config["pooling_mode"]
        modes = (mode,) if isinstance(mode, str) else tuple(mode) if isinstance(mode, list) else ()
        if not modes or not all(isinstance(name, str) for name in modes):
            raise FileCorruptError(f"pooling_mode is {mode!r}, expected a name or a list of names. Repair the model.")
        return modes
    flags = {
        "cls_token": "cls",
        "max_tokens": "max",
        "mean_tokens": "mean",
        "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
        "weightedmean_tokens": "weightedmean",
        "lasttoken": "lasttoken",
    }
    return tuple(mode for flag, mode in flags.items() if config.get(_POOLING_FLAGS + flag)) or ("mean",)


class _ModuleEntry(msgspec.Struct, frozen=True):
    """One entry of ``modules.json``."""

    type: str
    path: str


def _read_modules(folder: Path) -> tuple[ModuleSpec, ...]:
    path = folder / "modules.json"
    entries = read_json_as(path, list[_ModuleEntry])
    specs = tuple(_module_spec(folder, entry.type, entry.path) for entry in entries)
    if not specs:
        raise FileCorruptError(f"{path} begins with nothing, expected a Transformer module. Restore the file.")
    what = _OTHER_MODELS.get(specs[0].kind)
    if what is not None:
        raise InputError(f"{folder} {what}")
    if specs[0].kind != "Transformer":
        raise FileCorruptError(f"{path} begins with {specs[0].kind}, expected a Transformer module. Restore the file.")
    return specs


def _weights_in(folder: Path, *, pickled: bool) -> list[Path]:
    safe = sorted(file for file in folder.glob("*.safetensors") if file.is_file())
    return safe or sorted(file for file in folder.glob("pytorch_model*.bin") if pickled and file.is_file())


def _way(folder: Path) -> str:
    """What to do with a folder that has no modules."""
    config = _read_optional(folder / "config.json")
    if not config:
        return "Pass the folder of a model; for a raw checkpoint, run: encoder-tools extract CHECKPOINT OUT"
    if is_classifier(config):
        return (
            "It is a cross-encoder, which scores pairs: encoder-tools export FOLDER, then encoder-tools serve "
            "--reranker FOLDER."
        )
    if config.get("is_encoder_decoder"):
        return "It is a raw checkpoint; run: encoder-tools extract CHECKPOINT OUT"
    return "`encoder-tools export` makes one of a transformer body: mean pooling, as sentence-transformers takes it."


def _module_spec(root: Path, kind: str, relative: str) -> ModuleSpec:
    folder = root / relative
    if "\0" in relative or not folder.resolve().is_relative_to(root.resolve()):
        raise FileCorruptError(f"{root}/modules.json points outside the model folder: {relative!r}.")
    name = kind.rsplit(".", 1)[-1]
    config_file = folder / ("sentence_bert_config.json" if name == "Transformer" else "config.json")
    if name in ("Pooling", "Dense"):
        return ModuleSpec(name, folder, read_json(config_file))
    return ModuleSpec(name, folder, _read_optional(config_file))


def _read_optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def max_length_of(
    transformer: Mapping[str, Any], tokenizer: Mapping[str, Any], config: Mapping[str, Any]
) -> int | None:
    """The maximum length as sentence-transformers 6 finds it: explicit, else the tokenizer's capped by positions.

    Neither is above what the table of positions holds, where there is one: no longer text can be encoded.
    """
    most = most_positions(config)
    explicit = _length(transformer, "max_seq_length", "sentence_bert_config.json")
    if transformer.get("max_seq_length") is not None:
        return explicit if most is None else min(explicit or most, most)
    limits = [
        most,
        _length(tokenizer, "model_max_length", "tokenizer_config.json"),
        _length(config, "max_position_embeddings", "config.json"),
    ]
    return min((limit for limit in limits if limit is not None), default=None)


def _length(settings: Mapping[str, Any], key: str, file: str) -> int | None:
    """A maximum length; None where there is none, or one so great that it says "no limit".

    :raises FileCorruptError: if it is not a positive number.
    """
    value = settings.get(key)
    if value is None:
        return None
    # isfinite would overflow on 10**400
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < float("inf"):
        raise FileCorruptError(f"{file}: {key} is {str(value)[:40]!r}, expected a positive number. Repair the file.")
    return int(value) if value <= _NO_LIMIT else None


def truncation_side(tokenizer: Mapping[str, Any]) -> str:
    """Which side of an overlong text is cut.

    :raises FileCorruptError: if it is neither "left" nor "right".
    """
    side = tokenizer.get("truncation_side", "right")
    if side not in ("left", "right"):
        raise FileCorruptError(f"tokenizer_config.json: truncation_side is {side!r}, expected 'left' or 'right'.")
    return str(side)


def _positive(value: object, folder: Path, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise FileCorruptError(f"{folder}/config.json: {key} is {value!r}, expected a positive integer.")
    return value


def _positive_or_none(value: object, key: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise FileCorruptError(f"{key} is {value!r}, expected a positive integer or null. Repair the model's files.")
    return value


def _stable(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _VOLATILE_KEYS}
