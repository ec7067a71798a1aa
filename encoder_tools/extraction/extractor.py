"""``extract``: checkpoint in, Sentence Transformers folder out, all or nothing."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoder_tools.arguments import checked_integer
from encoder_tools.errors import (
    CheckpointFamilyError,
    CheckpointTensorError,
    EncoderToolsError,
    InputError,
    ProofError,
    one_line,
)
from encoder_tools.extraction.checkpoint import Checkpoint, locate, open_checkpoint
from encoder_tools.extraction.output_folder import Head, write_card, write_head
from encoder_tools.extraction.report import REPORT_NAME, ExtractionReport
from encoder_tools.extras import require_extra
from encoder_tools.families import family_of
from encoder_tools.families.family import Choices, Family, Target
from encoder_tools.io.files import write_json
from encoder_tools.io.staging import check_apart, staged_folder
from encoder_tools.machine.room import as_resource_error, check_room
from encoder_tools.model.tensor_files import TensorLocation

if TYPE_CHECKING:
    from encoder_tools.extraction.proof import Proof, Source
    from encoder_tools.extraction.tensor_account import Inventory

_LONGEST = 1_000_000  # tokens; what is above says "no limit"
_CLOSE = 0.999  # cosine from which on more tokens are worth more than exactness
_LIBRARIES = 700_000_000  # bytes that torch and transformers take before the first weight
_COMPUTED, _SCALED = "computed.safetensors", "scaled.safetensors"  # in the staged folder until the proof is done
_LEFT_OUT = ("torch_dtype", "auto_map")  # an old name of dtype; code of the source's that would be loaded from the hub
_VERSIONS_OF = ("torch", "transformers", "safetensors", "tokenizers")


def extract(
    checkpoint: str | Path,
    out: str | Path,
    *,
    revision: str | None = None,
    layout: str | None = None,
    keep_vision: bool = False,
    pooling: str = "mean",
    dense: Sequence[int] = (),
    normalize: bool = True,
    max_length: int | None = None,
    overwrite: bool = False,
) -> ExtractionReport:
    """Cut the encoder out of an encoder-decoder checkpoint and write it as a plain Sentence Transformers folder.

    Tensors are copied as ranges of bytes. Every tensor of the source is accounted for, and on a sample of real texts
    the hidden states are compared with those of the source's own encoder; the report is saved as ``extraction.json``.

    :param checkpoint: local folder, or hub id.
    :param out: folder to write.
    :param revision: branch, tag or commit of a hub id.
    :param layout: for T5Gemma 2 "gemma3" (default) or "t5gemma2"; other families have "native" alone.
    :param keep_vision: keep the vision tower (T5Gemma 2 in its own layout).
    :param pooling: "mean", "cls", "last", "weighted-mean" or "max".
    :param dense: widths of linear layers after the pooling, started at random with a fixed seed.
    :param normalize: end in unit vectors.
    :param max_length: maximum length in tokens; by default the greatest that family, tokenizer and positions have in
        common, or the one at which the layout is exact where vectors of longer texts were measured to differ (cosine to
        the source's below 0.999).
    :param overwrite: replace ``out`` if it exists.
    :raises CheckpointError: if the checkpoint cannot be extracted.
    :raises ProofError: if the extracted encoder differs from the source where the key layout guarantees equality.
    :raises FileMissingError: if a file is missing.
    :raises FileCorruptError: if a file is damaged.
    :raises InputError: if an option is out of range, or ``out`` exists.
    :raises ResourceError: if it needs more memory or disk than there is.
    :raises SaveError: if the disk is full; what stood at ``out`` is untouched.
    :raises MissingExtraError: if the extra ``train`` is not installed.

    Example:
        >>> from encoder_tools import extract
        >>> from tiny import make_checkpoint  # in tests/: a small random checkpoint of the true architecture
        >>> _ = make_checkpoint("t5gemma2", Path("checkpoint"))
        >>> report = extract("checkpoint", "model")
        >>> sorted(path.name for path in Path("model").glob("*.json"))[:2]
        ['config.json', 'config_sentence_transformers.json']
    """
    require_extra("train", "torch", "transformers", "accelerate", "sentence_transformers")
    head = Head(pooling, tuple(dense), normalize)
    head.check()
    if max_length is not None:
        max_length = checked_integer(max_length, "max_length", 1)
    source = open_checkpoint(locate(checkpoint, revision))
    check_apart(source.folder, Path(out), "the checkpoint")
    family = family_of(source.config)
    choices = Choices(layout, keep_vision)
    family.check_choices(choices)
    memory = as_resource_error(f"extract {checkpoint}")
    with memory, staged_folder(Path(out), overwrite=overwrite) as staged:
        return _Extraction(source, family, choices, head, staged).run(str(checkpoint), revision, max_length)


class _Extraction:
    """One extraction, step by step, into a staged folder."""

    def __init__(self, source: Checkpoint, family: Family, choices: Choices, head: Head, staged: Path) -> None:
        from encoder_tools.extraction.computed_tensors import write_computed, write_scaled
        from encoder_tools.extraction.tensor_account import take_inventory

        self.source, self.family, self.head, self.staged = source, family, head, staged
        self.config = _parse_config(source)
        model = _empty_model(source, family, self.config)
        self.prefix, self.encoder = family.encoder_in(model)
        computed = write_computed(source, model, staged / _COMPUTED, _dtype_name(source))
        self.inventory: Inventory = take_inventory(source, model, family, computed)
        raw = {key: value for key, value in source.config.items() if key not in _LEFT_OUT}
        raw["dtype"] = _dtype_name(source)
        self.target: Target = family.target(self.config, raw, self.inventory.names, self.prefix, choices)
        self.tensors: dict[str, TensorLocation] = {
            new: self.inventory.locations[old] for old, new in self.target.renames.items()
        }
        self._check_room()
        for name, factor in self.target.scaled.items():
            self.tensors[name] = write_scaled(self.tensors[name], factor, staged / _SCALED)

    def run(self, name: str, revision: str | None, max_length: int | None) -> ExtractionReport:
        from encoder_tools.extraction.proof_texts import sample_texts
        from encoder_tools.extraction.tensor_account import torch_dtype
        from encoder_tools.extraction.tensor_copy import check_copy, write_tensors
        from encoder_tools.extraction.tokenizer_files import check_tokenizer, load_tokenizer, save_tokenizer

        table = self.encoder.get_input_embeddings().weight  # type: ignore[operator]
        tokenizer = load_tokenizer(self.source.folder, table.shape[0])
        natural = self._natural_length(tokenizer, max_length)
        exact = self.target.exact_length
        limit = max_length or (natural if exact is None else min(natural, exact))
        self._check_length(tokenizer, limit)
        write_json(self.staged / "config.json", self.target.config)
        write_tensors(self.staged / "model.safetensors", self.tensors, self.target.placeholders)
        check_copy(self.staged, self.tensors)
        save_tokenizer(tokenizer, self.staged, limit, as_processor=self.target.multimodal)
        notes = list(self.target.notes)
        if not check_tokenizer(tokenizer, self.staged, sample_texts()):
            notes.append("The tokenizer adds no special token: an empty text has none, and its vector is zero.")
        if self.head.dense:
            notes.append("Dense layers start at random (seed 0) and must be trained.")
        write_head(self.staged, table.shape[1], self.head)
        proof = self._prove(tokenizer, limit)
        cosines = {} if max_length is not None else self._closeness(tokenizer, natural, proof)
        if cosines and min(cosines.values()) >= _CLOSE:
            limit = natural
            save_tokenizer(tokenizer, self.staged, limit, as_processor=self.target.multimodal)
        if proof.dtype not in (torch_dtype(location) for location in self.tensors.values()):
            notes.append("Hidden states overflow float16: the proof ran in bfloat16, and so should the model.")
        for name_ in (_COMPUTED, _SCALED):
            (self.staged / name_).unlink(missing_ok=True)
        report = self._report(name, revision, limit, proof, cosines, notes)
        write_json(self.staged / REPORT_NAME, report.to_json())
        write_card(self.staged, report)
        return report

    def _natural_length(self, tokenizer: Any, max_length: int | None) -> int:
        """The greatest common length of the family, the tokenizer and the positions.

        :raises InputError: if more tokens are asked for than the encoder has positions.
        """
        positions = getattr(self.encoder.config, "max_position_embeddings", None)
        if not isinstance(positions, int) or isinstance(positions, bool) or positions < 1:
            positions = _LONGEST  # relative positions have no end
        if max_length is not None and max_length > positions:
            raise InputError(
                f"max_length is {max_length}, but this encoder takes at most {positions} tokens. Ask for less."
            )
        return int(min(self.family.default_max_length, tokenizer.model_max_length, positions))

    def _check_room(self) -> None:
        """:raises ResourceError: if the encoder will not fit into memory or on the disk."""
        size = sum(location.size for location in self.tensors.values())
        memory = _LIBRARIES + size
        check_room(f"Extracting {self.source.folder}", memory=memory, disk=size, folder=self.staged.parent)

    def _check_length(self, tokenizer: Any, limit: int) -> None:
        specials = len(tokenizer("", verbose=False)["input_ids"])
        if limit <= specials:
            raise InputError(
                f"A maximum length of {limit} tokens leaves no room for text: the tokenizer adds {specials} special "
                "tokens. Ask for a greater max_length, or for a layout that is exact at more tokens."
            )

    def _prove(self, tokenizer: Any, limit: int) -> Proof:
        """Compare at lengths where the key layout guarantees equality, whatever maximum length was asked for."""
        from encoder_tools.extraction.proof import proof_batches, prove

        longest = limit if self.target.exact_length is None else min(limit, self.target.exact_length)
        target = self.target
        try:
            return prove(self._source(), self.staged, target.class_name, proof_batches(tokenizer, longest))
        except (EncoderToolsError, OSError, MemoryError):
            raise
        except Exception as error:  # a value with which a model can be built may still fail anywhere when it runs
            raise ProofError(
                f"transformers cannot load or run {target.class_name} ({type(error).__name__}: {one_line(error)}), so "
                "nothing was shown of it and nothing was written. If that speaks of memory, free some; else compare "
                f"{self.source.folder / 'config.json'} with its source, or report it."
            ) from error

    def _source(self) -> Source:
        from encoder_tools.extraction.proof import Source

        locations = self.inventory.locations
        return Source(
            self.encoder,
            {name: locations[self.prefix + name] for name in self.encoder.state_dict()},
            {locations[old]: self.target.name_in_class(new) for old, new in self.target.renames.items()},
        )

    def _closeness(self, tokenizer: Any, natural: int, proof: Proof) -> dict[int, float]:
        """How close vectors are beyond the exact length, by number of tokens; empty where there is no such length."""
        from encoder_tools.extraction.proof import closeness, long_batches

        exact = self.target.exact_length
        if exact is None or natural <= exact:
            return {}
        batches = long_batches(tokenizer, exact, natural)
        return closeness(self._source(), self.staged, self.target.class_name, batches, proof.dtype)

    def _report(
        self,
        name: str,
        revision: str | None,
        limit: int,
        proof: Proof,
        cosines: Mapping[int, float],
        notes: list[str],
    ) -> ExtractionReport:
        exact = self.target.exact_length
        if cosines:
            notes.append(_closeness_note(cosines, limit, exact))
        elif exact is not None and limit > exact:
            notes.append(f"The maximum length of {limit} was asked for; beyond {exact} tokens vectors are not exact.")
        locations, renames = self.inventory.locations, self.target.renames
        stored = {locations[old].name: new for old, new in renames.items()}
        dropped = {locations[old].name: reason for old, reason in self.target.dropped.items()}
        dropped |= self.inventory.spare
        return ExtractionReport(
            source=name,
            revision=revision,
            family=self.family.name,
            layout=self.target.layout,
            class_name=self.target.class_name,
            dtype=", ".join(sorted({location.dtype for location in self.tensors.values()})),
            copied=tuple(old for old, new in stored.items() if old == new),
            renamed={old: new for old, new in stored.items() if old != new},
            dropped=dropped,
            kept_bytes=sum(location.size for location in self.tensors.values()),
            max_difference=proof.difference,
            proof_texts=proof.texts,
            proof_longest=proof.longest,
            exact_length=exact,
            max_length=limit,
            closeness={str(tokens): cosine for tokens, cosine in cosines.items()},
            pooling=self.head.pooling,
            dense=self.head.dense,
            normalize=self.head.normalize,
            notes=tuple(notes),
            versions=_versions(),
        )


def _closeness_note(cosines: Mapping[int, float], limit: int, exact: int | None) -> str:
    figures = ", ".join(f"{cosine:.6f} at {tokens}" for tokens, cosine in sorted(cosines.items()))
    measured = f"Beyond {exact} tokens the cosine of mean vectors to the source's is {figures} tokens"
    if exact is None or limit > exact:
        return f"{measured}; pass --max-length {exact} to stay exact."
    return f"{measured}, below {_CLOSE}: the maximum length is the exact one. Pass --max-length for more."


def _parse_config(source: Checkpoint) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(source.folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - strict configurations raise classes of their own
        raise _config_error(source, "make a configuration of", error) from None


def _empty_model(source: Checkpoint, family: Family, config: Any) -> Any:
    """The source's class on the meta device.

    :raises CheckpointFamilyError: if the configuration cannot be of a model.
    """
    import torch

    from encoder_tools.extraction.proof import empty_model

    model_class = family.source_class(source.config)
    _check_depth(source, source.config)
    try:
        return empty_model(model_class, config, getattr(torch, _dtype_name(source)))
    except Exception as error:  # noqa: BLE001 - a value that makes no sense can fail anywhere in the constructors
        raise _config_error(source, f"build {model_class.__name__} from", error) from None


def _dtype_name(source: Checkpoint) -> str:
    """The dtype that ``config.json`` names, under its new or its old key; else that of the largest tensor."""
    from encoder_tools.extraction.tensor_account import torch_dtype

    named = source.config.get("dtype") or source.config.get("torch_dtype")
    if named in ("float64", "float32", "float16", "bfloat16"):
        return str(named)
    return str(torch_dtype(max(source.tensors.values(), key=lambda location: location.size))).removeprefix("torch.")


def _check_depth(source: Checkpoint, config: Mapping[str, Any]) -> None:
    """Refuse more layers than there are tensors, before transformers spends hours on building them."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            _check_depth(source, value)
        elif "layers" in key and isinstance(value, int) and value > len(source.tensors):
            raise CheckpointTensorError(
                f"config.json says {key} = {value}, but {source.folder} has only {len(source.tensors)} tensors. The "
                "weights do not belong to this config.json; download or save the checkpoint again."
            )


def _config_error(source: Checkpoint, what: str, error: Exception) -> CheckpointFamilyError:
    reason = f"{type(error).__name__}: {one_line(error)}"
    return CheckpointFamilyError(
        f"transformers cannot {what} {source.folder / 'config.json'} ({reason}). Restore the file from its source."
    )


def _versions() -> Mapping[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in _VERSIONS_OF}}
