"""What the products of a graph take in while it encodes real texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from encoder_tools.onnx_export.graph.graph_file import open_graph
from encoder_tools.onnx_export.half.ranges import Feed
from encoder_tools.runtime.session import open_session

_ROWS = 512  # of each tensor, over all batches
_SEED = 0


class Sample(NamedTuple):
    """A tensor of shape (..., channels) over many batches.

    :ivar lowest: float32 by channel, of all rows; ``highest``, likewise.
    :ivar rows: some hundred rows, float32 of shape (rows, channels).
    """

    lowest: NDArray[np.float32]
    highest: NDArray[np.float32]
    rows: NDArray[np.float32]


def sample_tensors(graph: Path, tensors: Sequence[str], feeds: Iterable[Feed]) -> dict[str, Sample]:
    """Run a float32 graph and look at some of its tensors.

    :param graph: ONNX file; a changed copy is written beside it and removed.
    :param tensors: names.
    :param feeds: batches to run. All tensors of a batch are in memory together.
    """
    model = open_graph(graph)
    values = {value.name: value for node in model.graph for value in node.outputs}
    names = [name for name in tensors if name in values]
    known = {output.name for output in model.graph.outputs}
    model.graph.outputs.extend(values[name] for name in names if name not in known)
    changed = graph.with_name(f"{graph.stem}.samples.onnx")
    batches = list(feeds)
    samples: dict[str, Sample] = {}
    try:
        ir.save(model, changed)
        session: Any = open_session(changed, "cpu", None)
        for batch in batches:
            for name, array in zip(names, session.run(names, dict(batch)), strict=True):
                seen = _look_at(array, batch, -(-_ROWS // len(batches)))
                samples[name] = _together(samples[name], seen) if name in samples else seen
    finally:
        changed.unlink(missing_ok=True)
    return samples


def _look_at(array: NDArray[np.float32], feed: Feed, count: int) -> Sample:
    """Padding counts for the range, because it is in the batch when the graph runs, but its rows matter to nobody."""
    rows = array.reshape(-1, array.shape[-1])
    mask = feed["attention_mask"]
    real = rows[mask.reshape(-1) == 1] if array.shape[:-1] == mask.shape else rows
    chosen = np.random.default_rng(_SEED).permutation(len(real))[:count]
    return Sample(rows.min(axis=0), rows.max(axis=0), real[np.sort(chosen)])


def _together(left: Sample, right: Sample) -> Sample:
    return Sample(
        np.minimum(left.lowest, right.lowest),
        np.maximum(left.highest, right.highest),
        np.concatenate([left.rows, right.rows]),
    )
