"""From folders to a :class:`ServiceState`: where encoder, collection and head are joined."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from encoder_tools.shipped import DEFAULT_MODEL
from service.state import ServiceState

if TYPE_CHECKING:
    from encoder_tools.runtime import OnnxEncoder
    from encoder_tools.runtime.session import Provider


def load_encoder(
    model: str | Path = DEFAULT_MODEL,
    *,
    variant: str = "fp32",
    provider: Provider = "cpu",
    threads: int | None = None,
) -> OnnxEncoder:
    """Open a model by its name or folder; raises as :class:`OnnxEncoder` does."""
    from encoder_tools.runtime import OnnxEncoder

    return OnnxEncoder(model, variant=variant, provider=provider, threads=threads)


def load_state(
    encoder: OnnxEncoder,
    *,
    names: tuple[str, ...] = (),
    collection: Path | None = None,
    head: Path | None = None,
    allow_sibling: bool = False,
) -> ServiceState:
    """Open the collection and the head, both of which must have been made with ``encoder``'s model.

    :param allow_sibling: let them have been made with another model of the same space.

    :raises FileMissingError: if a folder or file is not there.
    :raises FileCorruptError: if a file is damaged.
    :raises FingerprintError: if the collection or the head belongs to another model.
    """
    from heads import load_head
    from index import Collection

    return ServiceState(
        encoder,
        names=names,
        collection=Collection.open(collection, encoder, allow_sibling=allow_sibling) if collection else None,
        head=load_head(head, encoder=encoder, allow_sibling=allow_sibling) if head else None,
    )
