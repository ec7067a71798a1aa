"""A fitted head and its model as one ONNX file."""

from __future__ import annotations

from pathlib import Path

from encoder_tools import OnnxEncoder
from encoder_tools.errors import InputError
from encoder_tools.onnx_export.fused_head import HeadGraph, export_with_head
from heads import FittedHead
from heads.serving.scorers import Layers, Linear


def fuse(encoder: OnnxEncoder, head: FittedHead, out: Path, *, overwrite: bool = False) -> float:
    """Write ``out/model.onnx``, whose outputs are "sentence_embedding" and "probabilities".

    :return: the worst difference of the probabilities from those of encoder and head, one after the other.
    :raises InputError: if the head is neither linear nor a perceptron, is calibrated by a curve, or gives a number.
    :raises ParityError: if that difference is above 1e-4.
    """
    scorer = head.scorer
    if not isinstance(scorer, Linear | Layers) or head.link == "identity" or head.calibration.method == "isotonic":
        raise InputError(
            f"Head of kind {scorer.kind}, link {head.link} and {head.calibration.method} calibration cannot be fused, "
            "expected a linear one or a perceptron of probabilities by temperature or Platt scaling."
        )
    if encoder.variant != "fp32" or encoder.dim != encoder.folder.dim:
        raise InputError("Only a model's own graph, fp32 and of its full width, can hold a head. Open it as it is.")
    layers = [(layer.weights, layer.bias) for layer in (scorer.layers if isinstance(scorer, Layers) else (scorer,))]
    graph = HeadGraph(layers, head.calibration.factor, head.calibration.bias, head.link, head.labels)
    return export_with_head(encoder, graph, head.predict_proba, out, overwrite=overwrite)
