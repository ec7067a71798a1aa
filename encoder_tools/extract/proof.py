"""The proof: hidden states of the extracted encoder equal those of the source's own.

The source's encoder is its own class with its own tensors, the extracted one what a user will load. Each is built
without allocating weights, takes its tensors as views of the mapped file, runs, and is let go before the other comes:
never more than one encoder is in memory, and never the decoder.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from encoder_tools.errors import ProofError
from encoder_tools.extract.checkpoint import TensorPlace, open_checkpoint, validated
from encoder_tools.extract.sample import long_text, sample_texts

if TYPE_CHECKING:
    import torch

_BATCH = 6
_LONGEST = 512  # tokens; longer proofs take minutes on a CPU and show nothing more
_CHARACTERS_A_TOKEN = 12


class Proof(NamedTuple):
    """What was compared.

    :ivar difference: largest absolute difference of hidden states over all real tokens.
    :ivar texts: number of texts.
    :ivar longest: tokens of the longest text.
    """

    difference: float
    texts: int
    longest: int


def proof_batches(tokenizer: Any, longest: int) -> list[Any]:
    """Token ids and masks: single texts, padded batches, and one text of the greatest length that must be exact."""
    texts = sample_texts()
    limit = min(longest, _LONGEST)
    groups = [[texts[0]], *(texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH))]
    groups.append([long_text(limit * _CHARACTERS_A_TOKEN)])
    return [tokenizer(group, padding=True, truncation=True, max_length=limit, return_tensors="pt") for group in groups]


def source_states(
    model: torch.nn.Module, encoder: torch.nn.Module, prefix: str, places: Mapping[str, TensorPlace], batches: list[Any]
) -> list[torch.Tensor]:
    """Hidden states of the source's own encoder.

    :param model: the full model, its weights on the meta device.
    :param encoder: the encoder inside it, to which only its own tensors are given.
    """
    with _mapped(places, [prefix + name for name in encoder.state_dict()]) as tensors:
        weights = {name: tensors[prefix + name] for name in encoder.state_dict()}
        return _run(model, encoder, weights, batches)


def extracted_states(folder: Path, class_name: str, batches: list[Any]) -> list[torch.Tensor]:
    """Hidden states of the encoder in ``folder``, loaded into the class that its users will load.

    :raises ProofError: if the class finds missing or unexpected tensors, which it would otherwise fill at random.
    """
    model = empty_model(_class_named(class_name), _config_for(class_name, folder))
    places = {_own_name(name, class_name): place for name, place in open_checkpoint(folder).tensors.items()}
    wanted = set(model.state_dict())
    tied: dict[str, str] = dict(getattr(model, "all_tied_weights_keys", None) or {})
    places |= {alias: places[root] for alias, root in tied.items() if root in places}
    if set(places) != wanted:
        odd = sorted(set(places) ^ wanted)
        raise ProofError(f"{class_name} and the written tensors do not fit: {', '.join(odd[:3])}. Please report this.")
    with _mapped(places, list(places)) as tensors:
        return _run(model, model, tensors, batches)


def compare(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor], batches: list[Any]) -> Proof:
    """Largest absolute difference over the tokens that are not padding; NaN counts as infinite."""
    worst = 0.0
    for ours, theirs, batch in zip(left, right, batches, strict=True):
        kept = batch["attention_mask"].bool()
        difference = (ours[kept].double() - theirs[kept].double()).abs().max().item()
        worst = max(worst, difference if difference == difference else float("inf"))
    return Proof(
        worst,
        sum(len(batch["input_ids"]) for batch in batches),
        max(batch["input_ids"].shape[1] for batch in batches),
    )


def empty_model(model_class: Any, config: Any) -> torch.nn.Module:
    """A model whose parameters take no memory (meta device) and whose buffers are real."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        model: torch.nn.Module = model_class(config)
    return model.eval()


class _mapped(ExitStack):  # noqa: N801 - used as a function
    """Tensors as views of mapped safetensors files, valid inside the block."""

    def __init__(self, places: Mapping[str, TensorPlace], names: list[str]) -> None:
        super().__init__()
        self._places, self._names = places, names

    def __enter__(self) -> Mapping[str, torch.Tensor]:  # type: ignore[override]
        files = {self._places[name].file for name in self._names}
        opened = {file: self.enter_context(validated(file)) for file in files}
        return {name: opened[self._places[name].file].get_tensor(self._places[name].name) for name in self._names}


def _run(
    model: torch.nn.Module, encoder: torch.nn.Module, weights: Mapping[str, torch.Tensor], batches: list[Any]
) -> list[torch.Tensor]:
    import torch

    encoder.load_state_dict(dict(weights), strict=True, assign=True)
    _keep_in_fp32(model, encoder)
    with torch.no_grad():
        states = [
            encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            for batch in batches
        ]
    encoder.to("meta")
    gc.collect()
    return states


def _keep_in_fp32(model: torch.nn.Module, encoder: torch.nn.Module) -> None:
    """Raise the modules that transformers keeps in fp32 when it loads half-precision weights (T5's ``wo``)."""
    import torch

    half = next(encoder.parameters()).dtype
    names = set(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    if half == torch.float16:
        names |= set(getattr(model, "_keep_in_fp32_modules", None) or ())
    for name, module in encoder.named_modules():
        if half != torch.float32 and name.rpartition(".")[2] in names:
            module.float()


def _class_named(name: str) -> Any:
    import transformers
    from transformers.models.t5gemma2 import modeling_t5gemma2

    return getattr(transformers, name, None) or getattr(modeling_t5gemma2, name)


def _config_for(class_name: str, folder: Path) -> Any:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
    return config.encoder if class_name == "T5Gemma2Encoder" else config


def _own_name(name: str, class_name: str) -> str:
    """The native T5Gemma 2 layout keeps the full checkpoint's prefix, because sentence-transformers expects it."""
    return name.removeprefix("model.encoder.") if class_name == "T5Gemma2Encoder" else name
