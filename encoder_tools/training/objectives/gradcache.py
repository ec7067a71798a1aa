"""GradCache: the gradient of a loss over a whole batch in the memory of a small part of it.

All texts are encoded once without gradients; the loss is taken over all vectors, and its gradient with respect to each
vector kept; then each part is encoded again, and passes its vectors' gradients on. The parameters get the gradients
that one pass over the whole batch would have given them.

Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (GradCache), 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from encoder_tools.training.engine import distributed as processes

Encode = Callable[[NDArray[np.int64]], torch.Tensor]
"""From the rows of some texts to their vectors, (n, D), with gradients where they are enabled."""


def parts_of(lengths: Sequence[int], tokens: int) -> list[NDArray[np.int64]]:
    """Rows sorted by length, in parts that padded to the longest hold at most ``tokens``; one row at least."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    parts: list[NDArray[np.int64]] = []
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * lengths[order[end]] > tokens:
            parts.append(order[start:end])
            start = end
    return parts


def cached_backward(
    encode: Encode,
    lengths: Sequence[int],
    loss_of: Callable[[torch.Tensor], tuple[torch.Tensor, dict[str, float]]],
    *,
    tokens: int,
) -> dict[str, float]:
    """Add the gradients of ``loss_of`` over the vectors of all texts to whatever ``encode`` uses.

    :param lengths: tokens of each text.
    :param loss_of: from vectors, (n, D) in the order of ``lengths``, to the loss and its parts by name.
    :param tokens: padded tokens of a part.
    :return: the loss, "loss", and its parts.

    Where several processes train together, each adds the gradients of its share of the texts.
    """
    parts = parts_of(lengths, tokens)
    if len(parts) == 1 and processes.count() == 1:  # nothing to save
        back = torch.from_numpy(np.argsort(parts[0]))
        loss, told = loss_of(encode(parts[0])[back])
        loss.backward()  # type: ignore[no-untyped-call]
        return {"loss": float(loss.detach()), **told}
    # GradCache (Gao et al., 2021): the loss needs the vectors of all texts at once, the memory only those of one part.
    # So all vectors are computed without gradients, the loss gives the gradient of each vector, and a second pass, part
    # by part with gradients, carries that into the weights. Dropout must repeat itself: encode is deterministic here.
    mine = _share(parts, len(lengths))
    vectors = _all_vectors(encode, mine, len(lengths)).requires_grad_(True)
    loss, told = loss_of(vectors)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = vectors.grad
    assert gradients is not None  # noqa: S101 - the loss is of these vectors
    # A loss of NaN would only spread into all gradients; the loop stops at it by itself.
    if torch.isfinite(loss):
        for part in mine:
            encode(part).backward(gradients[torch.from_numpy(part).to(gradients.device)])  # type: ignore[no-untyped-call]
    return {"loss": float(loss.detach()), **told}


def _share(parts: list[NDArray[np.int64]], texts: int) -> list[NDArray[np.int64]]:
    """The parts that are this process's: every second one of two processes."""
    if len(parts) < processes.count():
        parts = np.array_split(np.concatenate(parts), min(processes.count(), texts))
    return parts[processes.rank() :: processes.count()]


def _all_vectors(encode: Encode, mine: list[NDArray[np.int64]], texts: int) -> torch.Tensor:
    """Vectors of all texts, (n, D), each computed by the process whose it is."""
    with torch.no_grad():
        one = np.zeros(1, dtype=np.int64)  # a process that no text is left for still knows how wide vectors are
        encoded = torch.cat([encode(part) for part in mine] or [encode(one)[:0]])
        rows = torch.from_numpy(np.concatenate([*mine, one[:0]])).to(encoded.device)
        vectors = encoded.new_zeros((texts, encoded.shape[1]))
        vectors[rows] = encoded
    return processes.add_up(vectors)
