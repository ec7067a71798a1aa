"""Cut the encoder out of an encoder-decoder checkpoint, with proof; needs the extra ``train``."""

from encoder_tools.extraction.extractor import extract
from encoder_tools.extraction.report import ExtractionReport

__all__ = ["ExtractionReport", "extract"]
