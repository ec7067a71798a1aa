"""The proof: hidden states of the extracted encoder equal those of the source's own.

The extracted encoder is loaded by ``from_pretrained``, as its users load it; the source's is its own class with its own
tensors, read from the checkpoint. The two are never in memory together, and the decoder never at all.

Equal to the bit needs equal memory: the kernel that torch takes for a single row depends on the alignment of the
weights, and so does its rounding (1e-5 was seen). So the source's tensors get the alignment and the dtype that the
extracted ones had when they were loaded.
"""

from __future__ import annotations

import gc
import mmap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from encoder_tools.errors import CheckpointTensorError, ProofError
from encoder_tools.extraction.proof_texts import long_text, sample_texts
from encoder_tools.extraction.tensor_account import torch_dtype
from encoder_tools.families.family import class_of_transformers
from encoder_tools.model.tensor_files import TensorLocation

if TYPE_CHECKING:
    import torch

_LONGEST = 512  # tokens; longer proofs take minutes on a CPU and show nothing more
_LONGEST_MEASURED = 1024  # tokens beyond the exact length
_BUDGET = 512  # tokens of a batch with its padding: keeps what the layers compute small beside the weights
_CHARACTERS_A_TOKEN = 12
_ALIGNMENT = 64  # bytes; no kernel looks further


class Form(NamedTuple):
    """How a tensor lies in memory.

    :ivar dtype: it has been converted to.
    :ivar alignment: its address modulo 64.
    """

    dtype: torch.dtype
    alignment: int


class Loaded(NamedTuple):
    """An encoder that was loaded, run and let go.

    :ivar states: hidden states of each batch.
    :ivar forms: how each of its tensors lay in memory, by name in the class.
    """

    states: list[torch.Tensor]
    forms: Mapping[str, Form]


class Source(NamedTuple):
    """The source's own encoder.

    :ivar encoder: the encoder inside the full model, its weights on the meta device.
    :ivar locations: where each of its tensors is.
    :ivar kept_as: name in the extracted encoder's class of each tensor that is kept.
    """

    encoder: torch.nn.Module
    locations: Mapping[str, TensorLocation]
    kept_as: Mapping[TensorLocation, str]


class Proof(NamedTuple):
    """What was compared.

    :ivar difference: largest absolute difference of hidden states over all real tokens.
    :ivar dtype: in which both ran.
    :ivar finite: no hidden state of the source is infinite or NaN; if false, the difference says nothing.
    :ivar texts: number of texts.
    :ivar longest: tokens of the longest text.
    """

    difference: float
    dtype: torch.dtype
    finite: bool
    texts: int
    longest: int


def proof_batches(tokenizer: Any, longest: int) -> list[Any]:
    """Token ids and masks: the shortest texts alone, batches with padding, and one text of the greatest length."""
    limit = min(longest, _LONGEST)
    texts = sample_texts()
    sizes = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=limit)["input_ids"]]
    groups: list[list[str]] = [["a"]]
    if tokenizer("")["input_ids"]:
        groups.append([""])
    group: list[str] = []
    widest = 0
    for text, size in zip(texts, sizes, strict=True):
        if group and max(widest, size) * (len(group) + 1) > _BUDGET:
            groups.append(group)
            group, widest = [], 0
        group, widest = [*group, text], max(widest, size)
    groups += [group, [long_text(limit * _CHARACTERS_A_TOKEN)]]
    return [tokenizer(group, padding=True, truncation=True, max_length=limit, return_tensors="pt") for group in groups]


def long_batches(tokenizer: Any, exact: int, longest: int) -> list[Any]:
    """One text of each length beyond the exact one, up to ``longest`` tokens, on which closeness is measured."""
    lengths = sorted({min(factor * exact, longest, _LONGEST_MEASURED) for factor in (2, 4)})
    text = long_text(lengths[-1] * _CHARACTERS_A_TOKEN)
    return [tokenizer([text], truncation=True, max_length=length, return_tensors="pt") for length in lengths]


def closeness(
    source: Source, folder: Path, class_name: str, batches: list[Any], dtype: torch.dtype
) -> dict[int, float]:
    """Lowest cosine between mean vectors of the extracted encoder and of the source, by number of tokens.

    :param dtype: in which both run, that of the proof; its rounding counts, as it does for users.
    """
    import torch

    actual = extracted_states(folder, class_name, batches, dtype).states
    expected = source_states(source, {}, batches, dtype)
    cosines: dict[int, float] = {}
    for ours, theirs, batch in zip(actual, expected, batches, strict=True):
        left, right = (states[0].double().mean(dim=0) for states in (ours, theirs))
        cosine = torch.nn.functional.cosine_similarity(left, right, dim=0).nan_to_num(nan=-1.0).item()
        tokens = int(batch["input_ids"].shape[1])
        cosines[tokens] = min(cosine, cosines.get(tokens, 1.0))
    return cosines


def prove(source: Source, folder: Path, class_name: str, batches: list[Any]) -> Proof:
    """Run both encoders over the same tokens and compare.

    Both run in the dtype that the weights are stored in. Where that is float16 and overflows, as the families of T5
    and Gemma do, they run in bfloat16 instead.

    :raises ProofError: if the extracted encoder cannot be loaded or its hidden states are not equal.
    :raises CheckpointTensorError: if the source's weights give no finite numbers.
    """
    import torch

    largest = max(source.locations.values(), key=lambda location: location.size)
    proof = _compare_in(torch_dtype(largest), source, folder, class_name, batches)
    if not proof.finite and proof.dtype == torch.float16:
        proof = _compare_in(torch.bfloat16, source, folder, class_name, batches)
    if not proof.finite:
        raise CheckpointTensorError(
            "The source's own encoder gives hidden states that are infinite or NaN, so nothing can be shown of it. Its "
            "weights are damaged: download or save the checkpoint again."
        )
    if proof.difference != 0:
        raise ProofError(
            f"Hidden states of the extracted encoder differ from the source's by {proof.difference:g}, expected 0. "
            "Nothing was written. Please report the checkpoint and the version of transformers."
        )
    return proof


def _compare_in(dtype: torch.dtype, source: Source, folder: Path, class_name: str, batches: list[Any]) -> Proof:
    states = extracted_states(folder, class_name, batches, dtype)
    forms = {name_: states.forms[name] for name_, name in source.kept_as.items()}
    expected = source_states(source, forms, batches, dtype)
    return compare(expected, states.states, batches, dtype)


def extracted_states(folder: Path, class_name: str, batches: list[Any], dtype: torch.dtype) -> Loaded:
    """Hidden states of the encoder in ``folder``, loaded as users load it.

    :raises ProofError: if the class finds missing or unexpected tensors, which it would otherwise fill at random.
    """
    model, info = _load(folder, class_name, dtype)
    odd = sorted({str(name) for names in info.values() for name in names})
    if odd:
        raise ProofError(
            f"{class_name} does not find its tensors in the extracted folder: {', '.join(odd[:3])}. Nothing was "
            "written. Please report the checkpoint and the version of transformers."
        )
    parameters = dict(model.named_parameters(remove_duplicate=False))
    forms = {name: Form(value.dtype, value.data_ptr() % _ALIGNMENT) for name, value in parameters.items()}
    del parameters
    states = _run(model, batches)
    del model
    gc.collect()
    return Loaded(states, forms)


def source_states(
    source: Source, forms: Mapping[TensorLocation, Form], batches: list[Any], dtype: torch.dtype
) -> list[torch.Tensor]:
    """Hidden states of the source's own encoder, whose weights are on the meta device before and after.

    :param forms: how to put tensors into memory; one that is not named gets ``dtype``.
    """
    usual = Form(dtype, 0)
    read: dict[TensorLocation, torch.Tensor] = {}  # tied tensors are read once
    for location in source.locations.values():
        if location not in read:
            read[location] = read_tensor(location, forms.get(location, usual))
    weights = {name: read[location] for name, location in source.locations.items()}
    source.encoder.load_state_dict(weights, strict=True, assign=True)
    del read, weights
    states = _run(source.encoder, batches)
    empty = {name: value.to("meta") for name, value in source.encoder.state_dict().items()}
    source.encoder.load_state_dict(empty, strict=True, assign=True)  # .to("meta") would take the rope tables too
    gc.collect()
    return states


def compare(
    expected: Sequence[torch.Tensor], actual: Sequence[torch.Tensor], batches: list[Any], dtype: torch.dtype
) -> Proof:
    """Largest absolute difference over the tokens that are not padding; NaN counts as infinite."""
    worst, finite = 0.0, True
    for ours, theirs, batch in zip(expected, actual, batches, strict=True):
        kept = batch["attention_mask"].bool()
        difference = (ours[kept].double() - theirs[kept].double()).abs().max().item()
        worst = max(worst, difference if difference == difference else float("inf"))
        finite = finite and bool(ours[kept].isfinite().all())
    return Proof(
        worst,
        dtype,
        finite,
        sum(len(batch["input_ids"]) for batch in batches),
        max(batch["input_ids"].shape[1] for batch in batches),
    )


def empty_model(model_class: Any, config: Any, dtype: torch.dtype) -> torch.nn.Module:
    """A model whose parameters take no memory (meta device) and whose buffers are real.

    :param dtype: torch's default while it is built, as in ``from_pretrained``: some classes compute their positions in
        it.
    """
    import torch
    from accelerate import init_empty_weights

    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with init_empty_weights(include_buffers=False):
            model: torch.nn.Module = model_class(config)
    finally:
        torch.set_default_dtype(default)
    return model.eval()


def read_tensor(location: TensorLocation, form: Form) -> torch.Tensor:
    """Read one tensor into pages of its own, which go back to the system with it; malloc would keep them."""
    import torch

    if not location.size:
        return torch.empty(location.shape, dtype=form.dtype)
    pages = mmap.mmap(-1, form.alignment + location.size, access=mmap.ACCESS_COPY)  # anonymous and private
    with location.file.open("rb") as file, memoryview(pages) as view, view[form.alignment :] as part:
        file.seek(location.start)
        if file.readinto(part) != location.size:
            raise ProofError(f"{location.file} ended inside {location.name}. Check the disk and try again.")
    tensor = torch.frombuffer(pages, dtype=torch_dtype(location), offset=form.alignment)
    return tensor.reshape(location.shape).to(form.dtype)


def _run(encoder: torch.nn.Module, batches: list[Any]) -> list[torch.Tensor]:
    import torch

    with torch.no_grad():
        return [
            encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            for batch in batches
        ]


def _load(folder: Path, class_name: str, dtype: torch.dtype) -> tuple[Any, Mapping[str, Any]]:
    """An encoder by ``from_pretrained``, and what transformers says about missing and unexpected tensors."""
    model_class, options = class_of_transformers(class_name), {"dtype": dtype, "local_files_only": True}
    if class_name == "T5Gemma2Encoder":
        # As sentence-transformers does it: the encoder's part of the configuration, the full checkpoint's names.
        from transformers import AutoConfig

        options["config"] = AutoConfig.from_pretrained(str(folder), local_files_only=True).encoder
        model_class = type(class_name, (model_class,), {"base_model_prefix": "model.encoder"})
    with _no_progress_bar():
        model, info = model_class.from_pretrained(str(folder), output_loading_info=True, **options)
    return model.eval(), info


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep transformers' bar over the loaded tensors out of the report."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
