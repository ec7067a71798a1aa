"""A Sentence Transformers folder on disk, read without torch and without trust.

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

from encoder_tools.errors import FileCorruptError, FileMissingError
from encoder_tools.files import read_json, sha256_of
from encoder_tools.prompts import PromptSet

EXPORT_FOLDER = "onnx"
_NO_LIMIT = 1_000_000  # transformers writes 1e30 for "no maximum length"; nothing real is above a million tokens
_VOLATILE_KEYS = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "__version__", "architectures")
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
                f"{folder} has no modules.json, so it is not a Sentence Transformers model. "
                "For a raw checkpoint, run: encoder-tools extract CHECKPOINT OUT"
            )
        modules = _read_modules(folder)
        st_config = _read_optional(folder / "config_sentence_transformers.json")
        config = read_json(folder / "config.json")
        tokenizer_config = _read_optional(folder / "tokenizer_config.json")
        return cls(
            path=folder,
            config=config,
            modules=modules,
            prompts=PromptSet.from_config(st_config),
            truncate_dim=_positive_or_none(st_config.get("truncate_dim"), "truncate_dim"),
            max_length=_max_length(modules[0].config, tokenizer_config, config),
            truncation_side=str(tokenizer_config.get("truncation_side", "right")),
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
    def export_folder(self) -> Path:
        """Where the ONNX files are or will be."""
        return self.path / EXPORT_FOLDER

    @property
    def tokenizer_file(self) -> Path:
        """The tokenizer of the torch-free runtime: the export's own where it had to write one, else the model's."""
        exported = self.export_folder / "tokenizer.json"
        return exported if exported.is_file() else self.path / "tokenizer.json"

    @cached_property
    def weight_files(self) -> tuple[Path, ...]:
        """The pipeline's safetensors files, in a fixed order; empty in a folder that ships only ONNX."""
        folders = dict.fromkeys(module.folder for module in self.modules)
        return tuple(file for folder in folders for file in sorted(folder.glob("*.safetensors")))

    def weights_digest(self) -> str:
        """SHA-256 over names and contents of the weight files.

        :raises FileMissingError: if the folder holds no safetensors.
        """
        if not self.weight_files:
            raise FileMissingError(
                f"{self.path} holds no safetensors weights. Save the model with sentence-transformers' save_pretrained."
            )
        digest = hashlib.sha256()
        for file in self.weight_files:
            digest.update(f"{file.relative_to(self.path).as_posix()}:{sha256_of(file)}\n".encode())
        return digest.hexdigest()

    def fingerprint(self, weights_digest: str, tokenizer_file: Path | None = None) -> str:
        """Hash over weights, configuration, tokenizer, modules and prompts, 32 hex digits.

        Two folders of the same fingerprint give the same vectors for the same call, whatever their version stamps are.
        The maximum length is left out: it changes only what happens to texts beyond it.

        :param weights_digest: see :meth:`weights_digest`; an export remembers it for folders without the weights.
        :param tokenizer_file: another file than :attr:`tokenizer_file`, for an export that is not in place yet.
        """
        identity = {
            "weights": weights_digest,
            "config": _stable(self.config),
            "tokenizer": sha256_of(tokenizer_file or self.tokenizer_file),
            "modules": [[module.kind, _stable(module.config)] for module in self.modules[1:]],
            "prompts": [dict(self.prompts.prompts), self.prompts.default_name],
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def pooling_modes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Pooling modes of a Pooling module's configuration, in either of sentence-transformers' two formats."""
    if "pooling_mode" in config:
        mode = config["pooling_mode"]
        return (mode,) if isinstance(mode, str) else tuple(mode)
    flags = {
        "cls_token": "cls",
        "max_tokens": "max",
        "mean_tokens": "mean",
        "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
        "weightedmean_tokens": "weightedmean",
        "lasttoken": "lasttoken",
    }
    return tuple(mode for flag, mode in flags.items() if config.get(_POOLING_FLAGS + flag)) or ("mean",)


def _read_modules(folder: Path) -> tuple[ModuleSpec, ...]:
    path = folder / "modules.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        specs = tuple(_module_spec(folder, str(entry["type"]), str(entry["path"])) for entry in entries)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, FileCorruptError):
            raise
        raise FileCorruptError(f"{path} is not a list of modules ({error}). Restore the file.") from None
    if not specs or specs[0].kind != "Transformer":
        found = specs[0].kind if specs else "nothing"
        raise FileCorruptError(f"{path} begins with {found}, expected a Transformer module.")
    return specs


def _module_spec(root: Path, kind: str, relative: str) -> ModuleSpec:
    folder = root / relative
    if not folder.resolve().is_relative_to(root.resolve()):
        raise FileCorruptError(f"{root}/modules.json points outside the model folder: {relative!r}.")
    name = kind.rsplit(".", 1)[-1]
    config_file = folder / ("sentence_bert_config.json" if name == "Transformer" else "config.json")
    if name in ("Pooling", "Dense"):
        return ModuleSpec(name, folder, read_json(config_file))
    return ModuleSpec(name, folder, _read_optional(config_file))


def _read_optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _max_length(transformer: Mapping[str, Any], tokenizer: Mapping[str, Any], config: Mapping[str, Any]) -> int | None:
    """The maximum length as sentence-transformers 6 finds it: explicit, else the tokenizer's capped by positions."""
    explicit = transformer.get("max_seq_length")
    if explicit is not None:
        return _positive_or_none(explicit, "max_seq_length")
    limits = [tokenizer.get("model_max_length"), config.get("max_position_embeddings")]
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit <= _NO_LIMIT]
    return min(known, default=None)


def _positive(value: object, folder: Path, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise FileCorruptError(f"{folder}/config.json: {key} is {value!r}, expected a positive integer.")
    return value


def _positive_or_none(value: object, key: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise FileCorruptError(f"{key} is {value!r}, expected a positive integer or null. Repair the model's files.")
    return value if value <= _NO_LIMIT else None


def _stable(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _VOLATILE_KEYS}
