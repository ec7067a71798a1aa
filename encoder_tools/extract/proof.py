"""The proof: hidden states of the extracted encoder equal those of the source's own.

The source's encoder is its own class with its own tensors, the extracted one what a user will load. Each is built
without allocating weights, reads its tensors from the file, runs, and is let go before the other comes: never more than
one encoder is in memory, and never the decoder. Tensors are read and not mapped, because the kernel that torch takes
for a single row depends on the alignment of the weights, and so does its rounding (1e-6 was seen).
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from encoder_tools.errors import CheckpointTensorError, ProofError
from encoder_tools.extract.checkpoint import TensorPlace, open_checkpoint
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
    return _run(model, encoder, {name: places[prefix + name] for name in encoder.state_dict()}, batches)


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
    return _run(model, model, places, batches)


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


def read_tensor(place: TensorPlace) -> torch.Tensor:
    """Read one tensor into memory that torch allocated, and so aligned."""
    import torch

    tensor = torch.empty(place.shape, dtype=_torch_dtype(place))
    with place.file.open("rb") as file:
        file.seek(place.start)
        read = file.readinto(memoryview(tensor.reshape(-1).view(torch.uint8).numpy())) if place.size else 0
    if read != place.size:
        raise ProofError(f"{place.file} ended inside {place.name}. Check the disk and try again.")
    return tensor


def _torch_dtype(place: TensorPlace) -> torch.dtype:
    import torch

    known = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    if place.dtype not in known:
        raise CheckpointTensorError(
            f"{place.name} is stored as {place.dtype}, expected one of {', '.join(known)}. Extract from the checkpoint "
            "before it was quantised."
        )
    return known[place.dtype]


def _run(
    model: torch.nn.Module, encoder: torch.nn.Module, places: Mapping[str, TensorPlace], batches: list[Any]
) -> list[torch.Tensor]:
    import torch

    read = {place: read_tensor(place) for place in set(places.values())}  # tied tensors are read once
    encoder.load_state_dict({name: read[place] for name, place in places.items()}, strict=True, assign=True)
    del read
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
