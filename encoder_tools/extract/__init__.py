"""Cut the encoder out of an encoder-decoder checkpoint, with proof; needs the extra ``train``."""

from encoder_tools.extract.extractor import extract
from encoder_tools.extract.report import ExtractionReport

__all__ = ["ExtractionReport", "extract"]
