"""From texts to token ids, and from token ids to batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.errors import FileCorruptError, FileMissingError, InputError, one_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer


BYTE_PIECES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
"""Pieces that stand for bytes, in vocabularies of SentencePiece."""


class PaddedBatch(NamedTuple):
    """One batch for the graph.

    :ivar rows: positions of the batch's texts in the caller's list, of shape (batch,), int64.
    :ivar input_ids: of shape (batch, length), int64, padded on the right.
    :ivar attention_mask: of shape (batch, length), int64, 1 where a token is.
    """

    rows: NDArray[np.int64]
    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]


class PairIds(NamedTuple):
    """A pair of texts.

    :ivar segments: 0 or 1 for each token.
    :ivar cut: whether it was too long.
    """

    ids: list[int]
    segments: list[int]
    cut: bool


class TokenText(NamedTuple):
    """A token as it stands in a text.

    :ivar text: the part of the text that it is, or a special token's name.
    :ivar start: where that begins, in characters; None for a special token. ``stop`` is where it ends.
    """

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class TextTokenizer:
    """A ``tokenizer.json`` with the model's maximum length.

    :ivar vocab_size: one more than the highest id that it can give.

    :param path: the tokenizer file, in the format of Hugging Face tokenizers.
    :param max_length: longest sequence in tokens, special tokens included; None for no limit.
    :param truncation_side: "right" keeps the start of an overlong text, "left" its end.
    :raises FileMissingError: if the file is not there.
    :raises FileCorruptError: if it cannot be parsed, or its special tokens alone fill the maximum length.
    """

    def __init__(self, path: Path, max_length: int | None, truncation_side: str = "right") -> None:
        self._path, self._cutters = path, dict[str, "Tokenizer"]()
        self._tokenizer = _load(path)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.vocab_size: int = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self._before, self._after = _special_tokens(self._tokenizer)
        self.max_length, self._side = max_length, truncation_side
        if max_length is not None and max_length <= self._before + self._after:
            raise FileCorruptError(
                f"{path} adds {self._before + self._after} special tokens to every text, but the maximum length is "
                f"{max_length}, which leaves no room for the text. Set a greater max_seq_length."
            )

    def __call__(self, texts: Sequence[str], *, prompt: str = "", truncate: bool = True) -> list[list[int]]:
        """Token ids of each text, special tokens included.

        :raises InputError: if an input is not a text or cannot be encoded as UTF-8.
        """
        prompted = [prompt + text for text in check_texts(texts)]
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(prompted)]
        return [self.cut(row) for row in rows] if truncate else rows

    def cut(self, ids: list[int], side: Literal["left", "right"] | None = None) -> list[int]:
        """Drop tokens of the text, never special ones: those were counted when the tokenizer was opened.

        :param side: the end that is cut off; None for the model's own.
        """
        if self.max_length is None or len(ids) <= self.max_length:
            return ids
        end = len(ids) - self._after
        room = self.max_length - self._before - self._after
        kept = ids[self._before : self._before + room] if (side or self._side) == "right" else ids[end - room : end]
        return ids[: self._before] + kept + ids[end:]

    def text_span(self, count: int) -> slice:
        """Which of so many ids of a text are not special ones."""
        return slice(self._before, max(self._before, count - self._after))

    def pairs(self, first: str, seconds: Sequence[str], strategy: str = "longest_first") -> list[PairIds]:
        """Token ids and segments of ``first`` with each of ``seconds``, cut as transformers cuts what is too long.

        :param strategy: "longest_first" takes tokens from the longer of the two, "only_second" from the second alone,
            as far as it goes, "only_first" from the first alone.
        """
        tokenizer = self._cutting(strategy)
        pairs = [(first, second) for second in seconds]
        try:
            encodings = tokenizer.encode_batch(pairs)
        except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception where one side alone is too long
            raise InputError(
                f"A pair cannot be cut to {self.max_length} tokens by {strategy!r} ({one_line(error)}). Shorten it."
            ) from None
        return [PairIds(encoding.ids, encoding.type_ids, bool(encoding.overflowing)) for encoding in encodings]

    def _cutting(self, strategy: str) -> Tokenizer:
        if self.max_length is None:
            return self._tokenizer
        if strategy not in self._cutters:
            cutter = _load(self._path)
            cutter.no_padding()
            cutter.enable_truncation(self.max_length, strategy=strategy, direction=self._side)
            self._cutters[strategy] = cutter
        return self._cutters[strategy]

    def describe(self, text: str, *, special: bool = True) -> list[TokenText]:
        """The tokens of a text and where they stand in it.

        :raises InputError: as a call does.
        """
        check_texts([text])
        encoding = self._tokenizer.encode(text, add_special_tokens=special)
        rows = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
        return [
            TokenText(
                token, piece if mask else text[start:stop], bool(mask), *((None, None) if mask else (start, stop))
            )
            for token, piece, mask, (start, stop) in rows
        ]

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text that token ids stand for."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special))


def check_texts(texts: Sequence[str]) -> Sequence[str]:
    """``texts`` if it is a sequence of texts that UTF-8 can hold.

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
    """Check token ids that come from outside; positions in errors are those of ``ids``.

    :raises InputError: if an id is not an integer of the vocabulary, or a list is empty or too long.
    """
    if not _is_list(ids):
        raise InputError(f"Expected lists of token ids, found {type(ids).__name__}. Pass [ids] to encode one list.")
    for position, row in enumerate(ids):
        if not _is_list(row):
            raise InputError(f"Token list {position} is a {type(row).__name__}, expected a list of token ids.")
        if len(row) == 0:
            raise InputError(f"Token list {position} is empty, expected at least one id.")
        if max_length is not None and len(row) > max_length:
            raise InputError(
                f"Token list {position} has {len(row)} ids, but the model takes at most {max_length}. Shorten it."
            )
        # The kinds first, all at once: a loop over each id costs more than the model on long lists.
        if {type(token) for token in row} != {int}:
            _check_kinds(position, row)
        outside = [token for token in (min(row), max(row)) if not 0 <= token < vocab_size]
        if outside:
            raise InputError(
                f"Token list {position} holds id {outside[0]}, outside this model's vocabulary of {vocab_size}. "
                "Were the ids made with another model's tokenizer? Send text instead."
            )


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)


def _check_kinds(position: int, row: Sequence[int]) -> None:
    for token in row:
        if isinstance(token, bool) or not isinstance(token, int | np.integer):
            raise InputError(f"Token list {position} holds {token!r}, expected integers.")


def padded_batches(
    ids: Sequence[Sequence[int]], max_tokens: int, pad_id: int, *, pads: bool = True
) -> Iterator[PaddedBatch]:
    """Cut texts into batches of at most ``max_tokens`` padded tokens, longest first.

    Sorting by length first keeps padding small; the longest batch comes first so that memory peaks at once. A text that
    is longer than the budget makes a batch of its own. A text of no tokens is padded to one masked position.

    :param pads: False for a model whose vectors change with padding: a batch then holds texts of one length.
    """
    lengths = np.fromiter((len(row) for row in ids), dtype=np.int64, count=len(ids))
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        width = max(1, int(lengths[order[start]]))
        rows = order[start : start + max(1, max_tokens // width)]
        if not pads:
            rows = rows[lengths[rows] == lengths[rows[0]]]
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


def merge_pair(merge: Any) -> tuple[str, str]:
    """Both sides of a merge of a ``tokenizer.json``, in either of its two forms."""
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left, right


def tokenizer_pad_id(config: Mapping[str, Any], tokenizer: TextTokenizer) -> int:
    """Id to pad with: the configuration's ``pad_token_id`` if it is a valid id, else 0 (padding is masked anyway)."""
    pad = config.get("pad_token_id")
    return pad if isinstance(pad, int) and 0 <= pad < tokenizer.vocab_size else 0


def _load(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    if not path.is_file():
        raise FileMissingError(f"{path} does not exist. Save the tokenizer in the fast format (tokenizer.json).")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception for every parse error
        raise FileCorruptError(f"{path} is not a tokenizer file ({one_line(error)}). Restore it.") from None


def _special_tokens(tokenizer: Tokenizer) -> tuple[int, int]:
    """How many special tokens stand before and after every text."""
    for text in ("a", "1", "the"):  # a text that has tokens of its own, whatever the vocabulary
        mask = tokenizer.encode(text).special_tokens_mask
        if 0 in mask:
            return mask.index(0), mask[::-1].index(0)
    return tokenizer.num_special_tokens_to_add(False), 0
