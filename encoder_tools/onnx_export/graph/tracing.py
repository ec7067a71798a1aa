"""Torch module to ONNX graph, whose weights stay where torch has them until they are written."""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import onnx_ir as ir
import torch
from onnx_ir.passes.common import ShapeInferencePass

from encoder_tools.errors import ExportError, one_line
from encoder_tools.onnx_export.graph.fused_operators import broadcast_rotations, fused_norms

if TYPE_CHECKING:
    from encoder_tools.onnx_export.graph.onnx_configs import TextBodyConfig
    from encoder_tools.onnx_export.graph.torch_pipeline import Pipeline

_SCOPES = "pkg.torch.onnx.name_scopes"
OPSET = 23  # the first with RMSNormalization, RotaryEmbedding and Attention as operators


def trace(pipeline: Pipeline, config: TextBodyConfig) -> ir.Model:
    """Export with torch's dynamo exporter: batch and length dynamic, weights not copied.

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
    model: ir.Model = program.model
    broadcast_rotations(model, next(iter(config.inputs)))
    ShapeInferencePass()(model)  # the optimizer leaves new nodes without a type
    _drop_notes(model)
    return model


def _drop_notes(model: ir.Model) -> None:
    """Take out where in torch's source each node came from, which is half a megabyte."""
    for node in model.graph.all_nodes():
        node.name = _name_of(node)
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            value.doc_string = None
    for value in (*model.graph.initializers.values(), *model.graph.inputs):
        value.metadata_props.clear()
        value.doc_string = None
    model.graph.metadata_props.clear()
    model.graph.doc_string = None
    model.metadata_props.clear()


def _name_of(node: ir.Node) -> str | None:
    """The module that a node was traced from, and its result: errors and reports then name layers."""
    scopes = node.metadata_props.get(_SCOPES)
    if not scopes:
        return node.name
    modules = [scope for scope in ast.literal_eval(scopes)[:-1] if scope]
    result = node.outputs[0].name or node.op_type
    return f"{modules[-1].removeprefix('body.')}/{result}" if modules else node.name


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
