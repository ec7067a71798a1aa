"""Texts of a run as token ids of the student and of its teacher, and the student's pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from encoder_tools.distillation.objective import Reading, cut_texts
from encoder_tools.distillation.recipe import Recipe
from encoder_tools.distillation.student.adapters import Pieces
from encoder_tools.distillation.student.unigram import pieces, save_tokenizer, train_tokenizer
from encoder_tools.distillation.student.vocabulary import cut_vocabulary, save_cut_tokenizer
from encoder_tools.distillation.student.warm_start import WarmStart, teachers_ids
from encoder_tools.distillation.texts import join_texts
from encoder_tools.errors import InputError
from encoder_tools.io.files import read_json
from encoder_tools.training.engine.device import Ids, hash_ids


class Corpus(NamedTuple):
    """Texts of a run as both sides read them, and the student's pieces."""

    texts: Reading
    unseen: Reading
    pieces: Pieces


def tokenized(
    recipe: Recipe, teacher: Path, texts: list[str], sources: list[str], folder: Path, earlier: WarmStart | None
) -> Corpus:
    """Read all texts with the student's tokenizer, left in ``folder``, and the teacher's where it is another."""
    cut, longest = recipe.vocabulary, recipe.training.longest
    trained = len(texts) - recipe.texts.held_out
    _check_enough(trained, recipe.training.batch, "texts to train on")
    theirs: list[Ids] | None = None
    kept: NDArray[np.int64] | None = None
    if earlier is not None:
        tokenizer = earlier.copy_tokenizer(folder)
        kept = teachers_ids(tokenizer, teacher) if cut.kind == "teacher" else None
    elif cut.kind == "teacher":
        tokenizer, kept = cut_vocabulary(teacher / "tokenizer.json", texts, cut.least_count, cut.most)
        save_cut_tokenizer(tokenizer, teacher, folder, recipe.student.max_length)
    else:
        tokenizer = _trained_tokenizer(texts, cut.most, folder, recipe.student.max_length)
    if kept is not None:
        names = [str(tokenizer.id_to_token(id_)) for id_ in range(len(kept))]
    else:
        names = pieces(tokenizer)
        whole = Tokenizer.from_file(str(teacher / "tokenizer.json"))
        whole.no_truncation()
        whole.no_padding()
        theirs = cut_texts(_ids(whole, texts), longest)
    ours = cut_texts(_ids(tokenizer, texts), longest)
    counts = np.bincount(np.concatenate(ours[:trained]), minlength=len(names))
    pad = tokenizer.token_to_id(str(read_json(folder / "tokenizer_config.json").get("pad_token")))
    made = Pieces(kept, names, counts, 0 if pad is None else pad)
    unseen = Reading(ours[trained:], None if theirs is None else theirs[trained:])
    if theirs is not None:
        return Corpus(Reading(ours[:trained], theirs[:trained]), unseen, made)
    joined = join_texts(ours[:trained], sources[:trained], recipe.texts.joined, longest, recipe.training.seed)
    _check_enough(len(joined), recipe.training.batch, "texts when they are joined")
    return Corpus(Reading(joined), unseen, made)


def digest_of(ids: Sequence[Ids]) -> str:
    """Hash of the texts in their order, as token ids: a recipe names files, not what is in them."""
    state = hashlib.sha256()
    hash_ids(state, ids)
    return state.hexdigest()[:32]


def _trained_tokenizer(texts: list[str], most: int, folder: Path, max_length: int) -> Tokenizer:
    """The tokenizer of this run: trained once, then read again. Training it twice need not give the same pieces."""
    if not (folder / "tokenizer.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        save_tokenizer(train_tokenizer(texts, most), folder, max_length)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _check_enough(count: int, batch: int, what: str) -> None:
    if count < batch:
        raise InputError(f"There are {count} {what}, fewer than a batch of {batch}. Add texts.")


def _ids(tokenizer: Tokenizer, texts: list[str]) -> list[Ids]:
    return [np.array(row.ids, dtype=np.int32) for row in tokenizer.encode_batch_fast(texts)]
