"""Dynamic int8: weights as int8, activations quantized at run time."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx_ir as ir

from encoder_tools.onnx_export.graph.graph_file import save_graph
from encoder_tools.onnx_export.graph.int8_weights import store_weights_as_int8
from encoder_tools.onnx_export.graph.tracing import quiet_exporter


def quantize_dynamically(model: ir.Model, path: Path) -> list[Path]:
    """Quantize a graph with ONNX Runtime's dynamic int8 and write it to ``path``.

    Word tables are stored as int8 with a scale per row: ONNX Runtime's own quantized Gather has one scale for the whole
    table, which cost all-MiniLM-L6-v2 three points of cosine. Multiplied weights are int8 per output channel in
    the 7-bit range: on CPUs without VNNI the u8s8 kernels add two products in 16 bits, which saturates at full range.

    :return: the files written: ``path``, and its external data where one protobuf cannot hold the weights.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(dir=path.parent) as folder, quiet_exporter():
        tables = model.clone()
        store_weights_as_int8(tables, tables_only=True)
        source = save_graph(tables, Path(folder) / "source.onnx")[0]
        quantize_dynamic(
            source,
            path,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
            use_external_data_format=len(list(Path(folder).iterdir())) > 1,
        )
    return [path, *sorted(path.parent.glob(f"{path.name}.*"))]
