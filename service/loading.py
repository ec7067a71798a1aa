"""From folders to a :class:`ServiceState`: where encoder, collection and head are joined."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import encoder_tools
from service.state import ServiceState

if TYPE_CHECKING:
    from encoder_tools.runtime import OnnxEncoder
    from encoder_tools.runtime.session import Provider

DEFAULT_MODEL = Path(encoder_tools.__file__).parent / "models" / "default"
"""The model that ships with the package."""


def load_encoder(
    folder: Path | None = None, *, variant: str = "fp32", provider: Provider = "cpu", threads: int | None = None
) -> OnnxEncoder:
    """Open the model in ``folder``, or the shipped one; raises as :class:`OnnxEncoder` does."""
    from encoder_tools.runtime import OnnxEncoder

    return OnnxEncoder(folder or DEFAULT_MODEL, variant=variant, provider=provider, threads=threads)


def load_state(
    encoder: OnnxEncoder, *, names: tuple[str, ...] = (), collection: Path | None = None, head: Path | None = None
) -> ServiceState:
    """Open the collection and the head, both of which must have been made with ``encoder``'s model.

    :raises FileMissingError: if a folder or file is not there.
    :raises FileCorruptError: if a file is damaged.
    :raises FingerprintError: if the collection or the head belongs to another model.
    """
    from heads import load_head
    from index import Collection

    return ServiceState(
        encoder,
        names=names,
        collection=Collection.open(collection, encoder) if collection else None,
        head=load_head(head, fingerprint=encoder.fingerprint) if head else None,
    )
