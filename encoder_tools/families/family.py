"""The base class of architecture families: what extraction needs to know of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from encoder_tools.errors import CheckpointFamilyError, InputError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

DECODER = "decoder, not part of the encoder"
LM_HEAD = "language-model head, not part of the encoder"
ALIAS = "tied alias, equal to the tensor it is tied to"
LEFTOVER = "left over from an old conversion, ignored by transformers"
_NOT_PUBLIC = {
    "T5Gemma2Encoder": "transformers.models.t5gemma2.modeling_t5gemma2",
    "T5Gemma2TextEncoder": "transformers.models.t5gemma2.modeling_t5gemma2",
    "MarianEncoder": "transformers.models.marian.modeling_marian",
    "M2M100Encoder": "transformers.models.m2m_100.modeling_m2m_100",
    "PegasusEncoder": "transformers.models.pegasus.modeling_pegasus",
}
"""Encoders that are not among the public names."""
_OLD_NAMES = {"T5WithLMHeadModel": "T5ForConditionalGeneration"}  # t5-small and its kin were saved in 2019


@dataclass(frozen=True)
class Choices:
    """What the user asks of the layout.

    :ivar layout: name of the layout, or None for the family's default.
    :ivar keep_vision: keep the vision tower (multimodal families, native layout).
    """

    layout: str | None = None
    keep_vision: bool = False


@dataclass(frozen=True)
class Target:
    """The encoder-only model that a checkpoint becomes.

    :ivar layout: name of the layout written.
    :ivar class_name: transformers class that loads it.
    :ivar config: its ``config.json``.
    :ivar renames: target tensor name by name in the source's class; everything that is kept is in it.
    :ivar dropped: reason by name in the source's class.
    :ivar placeholders: tensors without a source that the class cannot be built without: shape by target name, zeros.
    :ivar scaled: powers of two by which tensors are multiplied, by target name.
    :ivar exact_length: longest input for which the layout equals the source; None if it is exact at any length.
    :ivar file_prefix: of the tensors' names in the file, beyond their names in the class.
    :ivar multimodal: the class's own processor wants images too; the folder must name the tokenizer as processor.
    :ivar notes: what the user should know.
    """

    layout: str
    class_name: str
    config: dict[str, Any]
    renames: Mapping[str, str]
    dropped: Mapping[str, str]
    placeholders: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    scaled: Mapping[str, float] = field(default_factory=dict)
    exact_length: int | None = None
    file_prefix: str = ""
    multimodal: bool = False
    notes: tuple[str, ...] = ()

    def name_in_class(self, name: str) -> str:
        """Name that the class gives a tensor of the file."""
        return name.removeprefix(self.file_prefix)


class Family(ABC):
    """One architecture family.

    :cvar name: as users call it.
    :cvar model_types: ``model_type`` values of its checkpoints.
    :cvar default_architecture: class of a full checkpoint whose ``config.json`` names none.
    :cvar encoder_class_names: classes of the encoder inside the full model.
    :cvar default_max_length: tokens an embedding model of this family takes unless asked otherwise.
    """

    name: str
    model_types: tuple[str, ...]
    default_architecture: str
    encoder_class_names: tuple[str, ...]
    default_max_length: int = 512
    layouts: tuple[str, ...] = ("native",)

    def source_class(self, config: Mapping[str, Any]) -> type[torch.nn.Module]:
        """Class that the checkpoint was saved from.

        :raises CheckpointFamilyError: if transformers has no such class, or it is not of this family.
        """
        import transformers

        named = config.get("architectures") or [self.default_architecture]
        name = str(named[0] if isinstance(named, list) else named)
        class_ = class_of_transformers(_OLD_NAMES.get(name, name))
        if not isinstance(class_, type) or f".{self.model_types[0]}." not in class_.__module__:
            raise CheckpointFamilyError(
                f"config.json names the class {name!r}, which is not a {self.name} class of the installed transformers "
                f"{transformers.__version__}. Expected something like {self.default_architecture}."
            )
        return class_

    def encoder_in(self, model: torch.nn.Module) -> tuple[str, torch.nn.Module]:
        """The encoder inside a full model, and the prefix of its tensor names."""
        for name, module in model.named_modules():
            if type(module).__name__ in self.encoder_class_names and not getattr(module, "is_decoder", False):
                return f"{name}." if name else "", module
        raise CheckpointFamilyError(f"{type(model).__name__} has no encoder, so there is nothing to extract.")

    def class_name_of(self, name: str) -> str:
        """Name that the source's class gives a tensor which it does not know as ``name``. Most families: none other."""
        return name

    @abstractmethod
    def target(
        self, config: PretrainedConfig, raw: Mapping[str, Any], names: Iterable[str], prefix: str, choices: Choices
    ) -> Target:
        """Decide what becomes of every tensor.

        :param config: the source's configuration, parsed.
        :param raw: its ``config.json``, ``dtype`` filled in.
        :param names: names of all tensors of the source's class, tied aliases left out.
        :param prefix: prefix of the encoder's tensors among them.
        :raises InputError: if the family has no such layout.
        """

    def check_choices(self, choices: Choices) -> str:
        """The layout to write.

        :raises InputError: if the family has no such layout or no vision tower.
        """
        layout = choices.layout or self.layouts[0]
        if layout not in self.layouts:
            raise InputError(f"{self.name} has no layout {layout!r}; it has {', '.join(self.layouts)}.")
        if choices.keep_vision and layout != "t5gemma2":
            raise InputError("--keep-vision keeps a vision tower, which only T5Gemma 2 with --key-layout t5gemma2 can.")
        return layout


def class_of_transformers(name: str) -> Any:
    """A model class of transformers by name; None if there is none."""
    import transformers

    home = _NOT_PUBLIC.get(name)
    return getattr(transformers if home is None else import_module(home), name, None)


def reason_to_drop(name: str) -> str:
    """Why a tensor outside the encoder is left behind."""
    return LM_HEAD if name.startswith(("lm_head", "classification_head", "classifier", "score")) else DECODER


def split(
    names: Iterable[str], new_name: Callable[[str], str | None], outer: str = ""
) -> tuple[dict[str, str], dict[str, str]]:
    """What becomes of every tensor of a source: its new name where it is kept, else why it is left behind.

    :param new_name: gives None for a tensor that is not kept.
    :param outer: prefix of the whole model, which names are judged without.
    """
    renames: dict[str, str] = {}
    dropped: dict[str, str] = {}
    for name in names:
        new = new_name(name)
        if new is None:
            dropped[name] = reason_to_drop(name.removeprefix(outer))
        else:
            renames[name] = new
    return renames, dropped


def check_window(config: PretrainedConfig) -> None:
    """Check the sliding window of an encoder's configuration.

    :raises CheckpointFamilyError: if layers slide and the window is no positive number.
    """
    window = config.sliding_window
    if "sliding_attention" in config.layer_types and isinstance(window, int) and window < 1:
        raise CheckpointFamilyError(
            f"config.json says sliding_window = {window!r}, but layers slide. Expected a positive number of tokens; "
            "restore the file from its source."
        )
