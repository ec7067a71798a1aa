"""The quality of a head, and its examples: figures for programs, a page for people."""

from heads.evaluation.classification import Report, TestedOn, evaluate
from heads.evaluation.html import write_page
from heads.evaluation.label_quality import Duplicate, ExamplesReport, Suspect, examine
from heads.evaluation.multilabel_and_regression import (
    AnyReport,
    ManyReport,
    NumberReport,
    evaluate_many,
    evaluate_numbers,
)
from heads.evaluation.summary import summary

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
