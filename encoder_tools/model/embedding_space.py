"""Embedding spaces: which models' vectors can be compared, and how well they agree.

A model that was distilled in its teacher's own space gives nearly the teacher's vectors: an index that the teacher made
can answer the student's queries. Such a model says so in ``space.json``, with its agreement as measured. The space is
named by the fingerprint of the model that defines it, its **root**; a model without a mark is the root of a space of
its own. The mark holds the fingerprint of the model that it was measured on: weights that were trained on afterwards
have another fingerprint, and the mark no longer speaks of them.

Siblings, two models of one space, never stand in for each other by themselves: a collection or a head takes another
model than its own only where it is opened so explicitly. The fingerprint stays what it is, exact identity.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from encoder_tools.errors import FileCorruptError, FingerprintError, InputError
from encoder_tools.io.files import checked_as, write_json
from encoder_tools.io.versioned_json import read_versioned
from encoder_tools.protocols import FloatMatrix
from encoder_tools.vectors import unit_rows

SPACE_NAME = "space.json"
_FORMAT, _FORMAT_VERSION = "encoder-tools space", 1
LEAST_AGREEMENT = 0.5
"""Mean cosine below which two models are not of one space: unrelated ones, or rotated ones, are near 0."""


@dataclass(frozen=True)
class Agreement:
    """How well a model's vectors agree with its root's, over texts that it was not trained on.

    :ivar mean_cosine: in [-1, 1].
    :ivar lowest_cosine: of the worst text.
    :ivar texts: how many there were.
    """

    mean_cosine: float
    lowest_cosine: float
    texts: int

    def __str__(self) -> str:
        return f"mean cosine {self.mean_cosine:.3f}, lowest {self.lowest_cosine:.3f} over {self.texts} texts"


@dataclass(frozen=True)
class Space:
    """The space that a model's vectors are in.

    :ivar root: fingerprint of the model that defines it.
    :ivar name: of that model, for people.
    :ivar agreement: with the root's vectors; None for the root itself.
    """

    root: str
    name: str
    agreement: Agreement | None = None


class _StoredSpace(msgspec.Struct, frozen=True):
    """What is read of ``space.json``."""

    format: str
    format_version: int
    root: str
    name: str
    of: str
    agreement: Agreement


def read_space(folder: Path, fingerprint: str, name: str) -> Space:
    """The space of the model in ``folder``: as its ``space.json`` says; its own where there is none, or one of other
    weights.

    :param fingerprint: of the model.
    :param name: of the model, for a space of its own.
    :raises FileCorruptError: if ``space.json`` is damaged or of a later format.
    """
    path = folder / SPACE_NAME
    if not path.is_file():
        return Space(fingerprint, name)
    content = read_versioned(path, _FORMAT, (_FORMAT_VERSION,), "Remove it, or upgrade encoder-tools.")
    stored = checked_as(content, _StoredSpace, str(path))
    if not LEAST_AGREEMENT <= stored.agreement.mean_cosine <= 1:
        raise FileCorruptError(f"{path} says {stored.agreement}, which no model of one space has. Remove the file.")
    return Space(stored.root, stored.name, stored.agreement) if stored.of == fingerprint else Space(fingerprint, name)


def write_space(folder: Path, fingerprint: str, root: Space, agreement: Agreement) -> None:
    """Record that the model in ``folder`` shares ``root``'s embedding space.

    :param fingerprint: of the model.
    :param root: space of the model it was compared with, which must define it.
    :raises InputError: if the two do not agree, or ``root`` is not a root.
    """
    if root.agreement is not None:
        raise InputError(
            f"The other model is itself only near the space of {root.name} ({root.agreement}). Compare with that one."
        )
    if agreement.mean_cosine < LEAST_AGREEMENT:
        raise InputError(
            f"The two models are not of one space: {agreement}, expected a mean of {LEAST_AGREEMENT} or more. Distil "
            "the one from the other first."
        )
    mark = {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "root": root.root,
        "name": root.name,
        "of": fingerprint,
        "agreement": asdict(agreement),
    }
    write_json(folder / SPACE_NAME, mark)


def carry_space(before: Path, old: str, after: Path, new: str) -> None:
    """Rewrite a copied mark for a folder with the same numbers under another fingerprint; drop one that is stale.

    :param old: fingerprint of the model in ``before``; ``new``, of the one in ``after``.
    """
    space = read_space(before, old, "")
    (after / SPACE_NAME).unlink(missing_ok=True)
    if space.agreement is not None:
        write_space(after, new, Space(space.root, space.name), space.agreement)


def agreement_of(ours: FloatMatrix, theirs: FloatMatrix) -> Agreement:
    """Agreement of two models' vectors of the same texts, each of shape (n_texts, dim).

    :raises InputError: if the shapes differ, or there is no text.
    """
    if ours.shape != theirs.shape or not len(ours):
        raise InputError(f"Vectors of shapes {ours.shape} and {theirs.shape} cannot be compared, expected equal ones.")
    cosines = (unit_rows(ours) * unit_rows(theirs)).sum(axis=1)
    return Agreement(round(float(np.mean(cosines)), 4), round(float(cosines.min()), 4), len(cosines))


def space_of(encoder: Any) -> Space:
    """The space of any encoder: what it says itself, else its own."""
    space = getattr(encoder, "space", None)
    return space if isinstance(space, Space) else Space(encoder.fingerprint, getattr(encoder, "name", "this encoder"))


def check_sibling(what: str, fingerprint: str, root: str, encoder: Any, *, allow: bool, again: str) -> bool:
    """Whether something that another model made may be used with ``encoder``.

    :param what: it is, for the message, such as "The collection in x".
    :param fingerprint: of the model that made it.
    :param root: of the space it is in.
    :param allow: whether a sibling was asked for.
    :param again: how it is made with this encoder, for the message.
    :return: False if the encoder is the very model that made it, True if it is a sibling.
    :raises FingerprintError: if it is neither, or a sibling that was not asked for.
    """
    if fingerprint == encoder.fingerprint:
        return False
    own = space_of(encoder)
    if root != own.root:
        ask = "Siblings are of one space; these are not. " if allow else ""
        raise FingerprintError(
            f"{what} was made with model {fingerprint}, the encoder is {encoder.fingerprint}. {ask}"
            f"Use its own model, or {again}."
        )
    if not allow:
        raise FingerprintError(
            f"{what} was made with model {fingerprint}, the encoder is {encoder.fingerprint}. Both are of the space of "
            f"{own.name} ({own.agreement or 'this is its root'}). Use its own model, {again}, or "
            "allow a sibling (allow_sibling=True, --allow-sibling)."
        )
    return True
