"""From a Sentence Transformers folder to one verified ONNX graph; needs the extra ``train``."""

from encoder_tools.onnx_export.exporter import ExportReport, export

__all__ = ["ExportReport", "export"]
