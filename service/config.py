"""Configuration: a TOML file or the flags of ``encoder-tools serve``, as the same structs.

    data = "collections"                 # for collections that are made over HTTP

    [models.small]
    path = "default"                     # the model that ships, or a folder that `encoder-tools export` wrote
    aliases = ["text-embedding-3-small"]

    [heads.intents]
    path = "heads/intents"

    [rerankers.cross]
    path = "models/ms-marco-MiniLM"      # a cross-encoder with onnx/model.onnx

    [collections.handbook]
    path = "collections/handbook"
    model = "small"                      # may be left out where there is one model

Paths are relative to the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError
from encoder_tools.model.shipped import DEFAULT_MODEL

T = TypeVar("T")


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model: its folder, further names, and how it is run; ``gpus`` is how many cards have a copy of it."""

    path: str = DEFAULT_MODEL
    aliases: list[str] = []
    variant: str = "fp32"
    provider: Literal["cpu", "cuda", "tensorrt", "openvino"] = "cpu"
    threads: int | None = None
    gpus: Annotated[int, msgspec.Meta(ge=1)] = 1


class RerankerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cross-encoder: its folder, and how it is run."""

    path: str
    provider: Literal["cpu", "cuda", "tensorrt", "openvino"] = "cpu"
    threads: int | None = None
    gpus: Annotated[int, msgspec.Meta(ge=1)] = 1


class PartConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A head or a collection: its folder, and the model it belongs to (None: the only one)."""

    path: str
    model: str | None = None
    allow_sibling: bool = False


class ServeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that is served, by name, the default model first."""

    models: dict[str, ModelConfig]
    heads: dict[str, PartConfig] = {}
    collections: dict[str, PartConfig] = {}
    rerankers: dict[str, RerankerConfig] = {}
    data: str | None = None


def read_config(path: Path) -> ServeConfig:
    """A TOML file's content, with paths made absolute.

    :raises FileMissingError: if there is no such file.
    :raises FileCorruptError: if it is no TOML, or holds something else than a :class:`ServeConfig`.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileMissingError(f"{path} does not exist. Name a TOML file with what to serve.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FileCorruptError(f"{path} cannot be read as TOML ({error}). Repair it.") from None
    try:
        config = msgspec.convert(content, ServeConfig)
    except msgspec.ValidationError as error:
        raise FileCorruptError(
            f"{path}: {error}. See the documentation of service.config for what may be in it."
        ) from None
    return checked(_beside(config, path.resolve().parent))


def checked(config: ServeConfig) -> ServeConfig:
    """``config``, with every head and collection assigned to a model.

    :raises InputError: if there is no model, or one that is named is not there.
    """
    if not config.models:
        raise InputError("There is no model to serve. Add one: [models.NAME] with path = FOLDER.")
    return msgspec.structs.replace(
        config, heads=_assigned(config, config.heads), collections=_assigned(config, config.collections)
    )


def named(values: Sequence[str], fallback: str) -> dict[str, str]:
    """``NAME=FOLDER`` flags by name; one without a name goes by ``fallback``.

    :raises InputError: if a name is given twice.
    """
    by_name: dict[str, str] = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not equals or "/" in name:
            name, path = fallback, value
        if name in by_name:
            raise InputError(f"There are two called {name!r}. Give each a name: NAME=FOLDER.")
        by_name[name] = path
    return by_name


def _assigned(config: ServeConfig, parts: Mapping[str, PartConfig]) -> dict[str, PartConfig]:
    only = next(iter(config.models)) if len(config.models) == 1 else None
    for name, part in parts.items():
        model = part.model or only
        if model is None or model not in config.models:
            there_are = ", ".join(config.models)
            raise InputError(f"{name!r} belongs to model {model!r}, expected one of {there_are}. Set its model.")
    return {name: msgspec.structs.replace(part, model=part.model or only) for name, part in parts.items()}


def _beside(config: ServeConfig, folder: Path) -> ServeConfig:
    def absolute(path: str) -> str:
        return path if path == DEFAULT_MODEL or "://" in path else str(folder / path)

    return msgspec.structs.replace(
        config,
        models={n: msgspec.structs.replace(m, path=absolute(m.path)) for n, m in config.models.items()},
        heads={n: msgspec.structs.replace(p, path=absolute(p.path)) for n, p in config.heads.items()},
        collections={n: msgspec.structs.replace(p, path=absolute(p.path)) for n, p in config.collections.items()},
        rerankers={n: msgspec.structs.replace(r, path=absolute(r.path)) for n, r in config.rerankers.items()},
        data=None if config.data is None else absolute(config.data),
    )
