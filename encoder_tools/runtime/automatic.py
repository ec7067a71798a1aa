"""Which variant of a model a machine should run."""

from __future__ import annotations

from typing import NamedTuple

from encoder_tools.machine.processor import Processor
from encoder_tools.runtime.manifest import EXACT, INT8_MEAN, INT8_WORST, Manifest

AUTO = "auto"
"""Name that stands for the choice."""
_HALF, _BF16, _INT8 = "fp16", "bf16", "qint8"


class Choice(NamedTuple):
    """A variant and why it was chosen, in words."""

    variant: str
    reason: str


def choose_variant(manifest: Manifest, provider: str, processor: Processor) -> Choice:
    """The fastest variant that is near enough to the exact one.

    On a GPU that is fp16; with OpenVINO bf16, if the processor computes in it; on a CPU else qint8, if its instructions
    gain from int8 and the vectors are within the bars.

    :param manifest: of the export.
    :param provider: "cpu", or a GPU's.
    :param processor: of this machine.
    """
    if provider == "openvino":
        if _BF16 not in manifest.graphs:
            return Choice(EXACT, f"the export has no {_BF16}")
        if not processor.computes_bf16:
            return Choice(EXACT, f"{processor.name} has no instructions of bfloat16")
        return Choice(_BF16, f"{processor.name} computes in bfloat16")
    if provider != "cpu":
        if _HALF in manifest.graphs:
            return Choice(_HALF, f"{provider} computes fastest in fp16")
        return Choice(EXACT, f"the export has no {_HALF}")
    entry = manifest.graphs.get(_INT8)
    if entry is None:
        return Choice(EXACT, f"the export has no {_INT8}")
    if not processor.multiplies_int8_fast:
        return Choice(EXACT, f"{processor.name} has no instructions that make {_INT8} faster")
    figures = f"cosine to torch: mean {entry.mean_cosine:.4f}, lowest {entry.min_cosine:.4f}"
    if entry.mean_cosine < INT8_MEAN or entry.min_cosine < INT8_WORST:
        return Choice(EXACT, f"{_INT8} is farther than {INT8_MEAN:g} and {INT8_WORST:g} ({figures})")
    return Choice(_INT8, f"{processor.name} multiplies int8 fast; {figures}")
