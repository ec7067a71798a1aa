"""What a head is worth, and what its examples are like: figures for programs, a page for people."""

from heads.report.content import Report, TestedOn, evaluate
from heads.report.examples import Duplicate, ExamplesReport, Suspect, examine
from heads.report.other_kinds import AnyReport, ManyReport, NumberReport, evaluate_many, evaluate_numbers
from heads.report.page import write_page
from heads.report.summary import summary

__all__ = [
    "AnyReport",
    "Duplicate",
    "ExamplesReport",
    "ManyReport",
    "NumberReport",
    "Report",
    "Suspect",
    "TestedOn",
    "evaluate",
    "evaluate_many",
    "evaluate_numbers",
    "examine",
    "summary",
    "write_page",
]
