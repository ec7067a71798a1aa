"""Torch module to ONNX file."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import torch

from encoder_tools.errors import ExportError, one_line
from encoder_tools.onnx_export.graph.fused_operators import broadcast_rotations, fused_norms

if TYPE_CHECKING:
    from encoder_tools.onnx_export.graph.onnx_configs import TextBodyConfig
    from encoder_tools.onnx_export.graph.torch_pipeline import Pipeline

OPSET = 23  # the first with RMSNormalization, RotaryEmbedding and Attention as operators
GRAPH_NAME = "model.onnx"
_PROTOBUF_LIMIT = 2_000_000_000  # a protobuf message ends at 2 GiB; a graph needs some room of its own


def trace(pipeline: Pipeline, config: TextBodyConfig) -> onnx.ModelProto:
    """Export with torch's dynamo exporter: batch and length dynamic, weights inside.

    :raises ExportError: if torch cannot export the body.
    """
    try:
        inputs = config.dummy_inputs()
        with torch.no_grad(), quiet_exporter(), config.traceable(), fused_norms(pipeline.body):
            program = torch.onnx.export(
                pipeline,
                kwargs=inputs,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(config.inputs),
                output_names=list(config.outputs),
                dynamic_shapes=config.inputs,
                optimize=True,
                verbose=False,
            )
    except Exception as error:  # what a body does with its inputs can fail in any way
        raise ExportError(
            f"torch cannot export {type(pipeline.body).__name__} ({type(error).__name__}: {one_line(error)}). Only "
            "transformer bodies that take input_ids and attention_mask can be exported; else please report it."
        ) from error
    assert program is not None  # noqa: S101 - dynamo=True always returns a program; the type says Optional
    model: onnx.ModelProto = program.model_proto
    broadcast_rotations(model, next(iter(config.inputs)))
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer, model.graph):
        part.ClearField("metadata_props")  # where in torch's source each node came from: half a megabyte
        part.ClearField("doc_string")
    return model


def save_graph(model: onnx.ModelProto, path: Path) -> list[Path]:
    """Write a graph; its weights go to a file beside it only where one protobuf cannot hold them.

    :return: the files written.
    """
    if model.ByteSize() < _PROTOBUF_LIMIT:
        onnx.save_model(model, str(path))
        return [path]
    data = path.with_name(path.name + ".data")
    onnx.save_model(model, str(path), save_as_external_data=True, location=data.name, size_threshold=1024)
    onnx.load_external_data_for_model(model, str(path.parent))  # onnx empties the model while it writes
    return [path, data]


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Hold back what the exporter prints and warns about its own internals; its errors still come through."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
