"""The ONNX graph: traced from torch, its operators fused, its weights quantized or stored as int8."""
