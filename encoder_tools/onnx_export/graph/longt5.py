"""LongT5's transient-global attention, written so that its number of global blocks stays dynamic in a graph.

transformers computes block ids and block sums with operations whose output size the exporter fixes at the traced length
(``repeat``, ``one_hot``, a branch on the number of blocks). These two functions give the same integers and sums, by
comparing positions instead. They stand in for transformers' own only while a graph is traced.

Source of the attention: Guo et al., "LongT5: Efficient Text-To-Text Transformer for Long Sequences", 2022, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def fixed_block_ids(mask: torch.Tensor, block_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which global block each token belongs to, and which blocks exist.

    Tokens after the last whole block belong to that block; padding has id -1.

    :param mask: (B, L), 1 where a token is.
    :return: int32 block ids of shape (B, L), and int32 flags of shape (B, L // block_size).
    """
    length = mask.shape[1]
    share = torch.ones_like(mask) / block_size  # (B, L)
    # transformers' own sums, rounded as it rounds them: torch adds float32 up in float64 and rounds each sum, ONNX
    # Runtime would add in float32, and floor makes a whole block of the difference.
    begun = torch.cumsum(share.double(), dim=1).float() - share
    offset = torch.where(mask != 0, 1.0, -1000.0).type(mask.dtype)
    ids = torch.floor(offset + begun - 1.0).type(mask.dtype)
    ids = torch.clamp(ids, min=-1) * mask + (mask - 1)
    block_ends = torch.arange(length, device=mask.device) % block_size == block_size - 1  # (L,)
    last_whole = torch.logical_and(block_ends, ids >= 0).sum(-1, keepdim=True).type(ids.dtype) - 1
    ids = torch.where(ids < last_whole, ids, last_whole)
    blocks = torch.arange(length // block_size, device=mask.device)
    exists = blocks[None, :].to(ids.dtype) <= ids.max(dim=-1, keepdim=True).values
    return ids.type(torch.int), exists.type(torch.int)


def block_sums(hidden: torch.Tensor, block_ids: torch.Tensor, blocks: int) -> torch.Tensor:
    """Sum of the hidden states of each block, of shape (B, blocks, H)."""
    member = block_ids[..., None] == torch.arange(blocks, device=block_ids.device)  # (B, L, G)
    return torch.einsum("bnd,bng->bgd", hidden, member.to(hidden.dtype))


@contextmanager
def traceable_global_attention() -> Iterator[None]:
    """Put the two functions in place of transformers' own, for the length of the block."""
    from transformers.models.longt5 import modeling_longt5

    theirs = modeling_longt5._make_global_fixed_block_ids, modeling_longt5._create_global_aggregates
    modeling_longt5._make_global_fixed_block_ids = fixed_block_ids
    modeling_longt5._create_global_aggregates = block_sums
    try:
        yield
    finally:
        modeling_longt5._make_global_fixed_block_ids, modeling_longt5._create_global_aggregates = theirs
