"""From texts to token ids, and from token ids to batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class PaddedBatch(NamedTuple):
    """One batch for the graph.

    :ivar rows: positions of the batch's texts in the caller's list, of shape (batch,), int64.
    :ivar input_ids: of shape (batch, length), int64, padded on the right.
    :ivar attention_mask: of shape (batch, length), int64, 1 where a token is.
    """

    rows: NDArray[np.int64]
    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]


class TextTokenizer:
    """A ``tokenizer.json`` with the model's maximum length.

    :param path: the tokenizer file, in the format of Hugging Face tokenizers.
    :param max_length: longest sequence in tokens, special tokens included; None for no limit.
    :param truncation_side: "right" keeps the start of an overlong text, "left" its end.
    :raises FileMissingError: if the file is not there.
    :raises FileCorruptError: if it cannot be parsed.
    """

    def __init__(self, path: Path, max_length: int | None, truncation_side: str = "right") -> None:
        self.max_length = max_length
        self._whole = _load(path)
        self._cut = self._whole
        self._whole.no_padding()
        self._whole.no_truncation()
        if max_length is not None:
            self._cut = _load(path)
            self._cut.no_padding()
            self._cut.enable_truncation(max_length, direction=truncation_side)

    @property
    def vocab_size(self) -> int:
        """One more than the highest id that this tokenizer can give."""
        return max(self._whole.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def __call__(self, texts: Sequence[str], *, prompt: str = "", truncate: bool = True) -> list[list[int]]:
        """Token ids of each text, special tokens included.

        :raises InputError: if an input is not a text or cannot be encoded as UTF-8.
        """
        tokenizer = self._cut if truncate else self._whole
        prompted = [prompt + text for text in check_texts(texts)]
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(prompted)]


def check_texts(texts: Sequence[str]) -> Sequence[str]:
    """Return ``texts`` if it is a sequence of texts that UTF-8 can hold.

    :raises InputError: naming the first offender. A lone ``str`` is refused too: its letters would be taken as texts.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence | np.ndarray):
        raise InputError(f"Expected a list of texts, found {type(texts).__name__}. Pass [text] to encode one text.")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"Text {position} is of type {type(text).__name__}, expected str.")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"Text {position} holds a lone surrogate (U+{ord(text[error.start]):04X} at character {error.start}), "
                "which is not valid Unicode text. Decode the source correctly or remove it."
            ) from None
    return texts


def check_token_ids(ids: Sequence[Sequence[int]], vocab_size: int, max_length: int | None) -> None:
    """Check token ids that come from outside.

    :raises InputError: if an id is not an integer of the vocabulary, or a list is empty or too long.
    """
    for position, row in enumerate(ids):
        if len(row) == 0:
            raise InputError(f"Token list {position} is empty, expected at least one id.")
        if max_length is not None and len(row) > max_length:
            raise InputError(
                f"Token list {position} has {len(row)} ids, but the model takes at most {max_length}. Shorten it."
            )
        for token in row:
            if isinstance(token, bool) or not isinstance(token, int | np.integer):
                raise InputError(f"Token list {position} holds {token!r}, expected integers.")
            if not 0 <= token < vocab_size:
                raise InputError(
                    f"Token list {position} holds id {token}, outside this model's vocabulary of {vocab_size}. "
                    "Were the ids made with another model's tokenizer? Send text instead."
                )


def padded_batches(ids: Sequence[Sequence[int]], max_tokens: int, pad_id: int) -> Iterator[PaddedBatch]:
    """Cut texts into batches of at most ``max_tokens`` padded tokens, longest first.

    Sorting by length first keeps padding small; the longest batch comes first so that memory peaks at once. A text that
    is longer than the budget makes a batch of its own. A text of no tokens is padded to one masked position.
    """
    lengths = np.fromiter((len(row) for row in ids), dtype=np.int64, count=len(ids))
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        width = max(1, int(lengths[order[start]]))
        rows = order[start : start + max(1, max_tokens // width)]
        yield _pad(ids, rows, width, pad_id)
        start += len(rows)


def _pad(ids: Sequence[Sequence[int]], rows: NDArray[np.int64], width: int, pad_id: int) -> PaddedBatch:
    input_ids = np.full((len(rows), width), pad_id, dtype=np.int64)  # (B, L)
    attention_mask = np.zeros((len(rows), width), dtype=np.int64)  # (B, L)
    for line, row in enumerate(rows):
        tokens = ids[row]
        input_ids[line, : len(tokens)] = tokens
        attention_mask[line, : len(tokens)] = 1
    return PaddedBatch(rows, input_ids, attention_mask)


def _load(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    if not path.is_file():
        raise FileMissingError(f"{path} does not exist. Save the tokenizer in the fast format (tokenizer.json).")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception for every parse error
        raise FileCorruptError(f"{path} is not a tokenizer file ({_first_line(error)}). Restore it.") from None


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def tokenizer_pad_id(config: dict[str, Any], tokenizer: TextTokenizer) -> int:
    """Id to pad with: the configuration's ``pad_token_id`` if it is a valid id, else 0 (padding is masked anyway)."""
    pad = config.get("pad_token_id")
    return pad if isinstance(pad, int) and 0 <= pad < tokenizer.vocab_size else 0
