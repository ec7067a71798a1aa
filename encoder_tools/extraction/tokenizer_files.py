"""The tokenizer of the extracted model, saved for transformers and as ``tokenizer.json`` for the torch-free runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from encoder_tools.errors import CheckpointTensorError, FileCorruptError, FileMissingError, ProofError, one_line
from encoder_tools.io.files import read_json, write_bytes, write_json
from encoder_tools.model.tokenizer import TextTokenizer

_FIRST_BYTE_ID = 3  # ByT5: pad 0, eos 1, unk 2, then the bytes


def load_tokenizer(folder: Path, vocab_size: int) -> Any:
    """Load a checkpoint's tokenizer with transformers.

    :raises FileMissingError: if there is none.
    :raises FileCorruptError: if it cannot be read, has no padding token or a maximum length that is none.
    :raises CheckpointTensorError: if it gives ids beyond the word table.
    """
    from transformers import AutoTokenizer, T5Tokenizer

    names = ("tokenizer.json", "spiece.model", "tokenizer.model", "tokenizer_config.json")
    if not any((folder / name).is_file() for name in names):
        raise FileMissingError(f"{folder} has no tokenizer (looked for {', '.join(names)}). Download its files too.")
    # T5's own file alone: AutoTokenizer cannot convert it for UMT5 (transformers 5.23), the class can.
    alone = (folder / "spiece.model").is_file() and not (folder / "tokenizer.json").is_file()
    try:
        tokenizer = (T5Tokenizer if alone else AutoTokenizer).from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception for files it cannot parse
        raise FileCorruptError(
            f"transformers cannot read the tokenizer in {folder} ({one_line(error)}). Restore it."
        ) from None
    length = tokenizer.model_max_length
    if isinstance(length, bool) or not isinstance(length, int | float) or not length >= 1:
        raise FileCorruptError(
            f"{folder / 'tokenizer_config.json'}: model_max_length is {str(length)[:40]!r}, expected a positive "
            "number. Repair the file."
        )
    if tokenizer.pad_token_id is None:
        raise FileCorruptError(
            f"The tokenizer in {folder} has no padding token, without which texts cannot be batched. Name one as "
            "pad_token in tokenizer_config.json."
        )
    highest = max(tokenizer.get_vocab().values())
    if highest >= vocab_size:
        raise CheckpointTensorError(
            f"The tokenizer in {folder} gives ids up to {highest}, but the word table has {vocab_size} rows. It is the "
            "tokenizer of another model; use the one that was saved with these weights."
        )
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: Path, max_length: int, *, as_processor: bool) -> None:
    """Write the tokenizer with its maximum length, and ``tokenizer.json`` where transformers' class has none.

    :param as_processor: name the tokenizer as the model's processor. sentence-transformers asks for a processor, and
        for a multimodal class transformers would look for an image processor too.
    """
    tokenizer.model_max_length = max_length
    tokenizer.save_pretrained(str(folder))
    if as_processor:
        config = read_json(folder / "tokenizer_config.json")
        write_json(folder / "tokenizer_config.json", {**config, "processor_class": "AutoTokenizer"})
    if not (folder / "tokenizer.json").is_file():
        write_bytes(folder / "tokenizer.json", byte_tokenizer(tokenizer).to_str().encode("utf-8"))


def check_tokenizer(tokenizer: Any, folder: Path, texts: Sequence[str]) -> int:
    """Compare ``tokenizer.json`` with transformers' tokenizer, text by text.

    :return: number of special tokens that are added to an empty text.
    :raises ProofError: naming the first text on which they differ.
    """
    fast = TextTokenizer(folder / "tokenizer.json", None)
    for text, ids in zip(texts, fast(texts), strict=True):
        if ids != tokenizer(text, verbose=False)["input_ids"]:
            raise ProofError(f"tokenizer.json gives other ids than transformers' tokenizer for {text[:40]!r}.")
    return len(fast([""])[0])


def byte_tokenizer(slow: Any) -> Any:
    """ByT5's byte tokenizer as a fast one: each byte a piece, ``</s>`` at the end.

    Source: Xue et al., "ByT5: Towards a Token-Free Future with Pre-trained Byte-to-Byte Models", TACL 2022.

    :raises FileCorruptError: if ``slow`` is another tokenizer that has no fast form.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers.convert_slow_tokenizer import bytes_to_unicode  # the letters that ByteLevel has for bytes

    if type(slow).__name__ != "ByT5Tokenizer":
        raise FileCorruptError(
            f"{type(slow).__name__} has no fast form (tokenizer.json), which the runtime needs. Convert it with "
            "transformers first."
        )
    added = {token.content: number for number, token in slow.added_tokens_decoder.items()}
    vocabulary = {text: number for text, number in added.items() if number < _FIRST_BYTE_ID}
    vocabulary |= {letter: _FIRST_BYTE_ID + byte for byte, letter in bytes_to_unicode().items()}
    vocabulary |= {text: number for text, number in added.items() if number >= _FIRST_BYTE_ID}
    fast = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=slow.unk_token))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    fast.decoder = decoders.ByteLevel()
    flags = {token.content: token for token in slow.added_tokens_decoder.values()}
    fast.add_special_tokens(
        [
            AddedToken(text, lstrip=flags[text].lstrip, rstrip=flags[text].rstrip, normalized=False)
            for text, _ in sorted(added.items(), key=lambda item: item[1])
        ]
    )
    end = slow.eos_token
    fast.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, slow.eos_token_id)])
    return fast
