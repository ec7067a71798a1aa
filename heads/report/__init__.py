"""What a head is worth, and what its examples are like: figures for programs, a page for people."""

from heads.report.content import Report, TestedOn, evaluate
from heads.report.examples import Duplicate, ExamplesReport, Suspect, examine
from heads.report.page import write_page

__all__ = ["Duplicate", "ExamplesReport", "Report", "Suspect", "TestedOn", "evaluate", "examine", "write_page"]
