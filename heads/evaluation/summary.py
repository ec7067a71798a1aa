"""The few figures of a report that fit on a screen."""

from __future__ import annotations

from heads.evaluation.classification import Report
from heads.evaluation.multilabel_and_regression import AnyReport, ManyReport, NumberReport


def summary(report: AnyReport) -> dict[str, float]:
    """Figures by their names, the most important first; those that do not exist are left out."""
    if isinstance(report, ManyReport):
        return {
            "micro F1": report.micro_f1,
            "micro precision": report.micro_precision,
            "micro recall": report.micro_recall,
            "macro F1": report.macro_f1,
            "average precision": report.average_precision,
            "exactly right": report.exact,
        }
    if isinstance(report, NumberReport):
        figures = {
            "mean absolute error": report.mean_absolute_error,
            "root mean squared error": report.root_mean_squared_error,
            "R2": report.r2,
            "rank correlation": report.spearman,
        }
        return {name: value for name, value in figures.items() if value is not None}
    return _of_one_label(report)


def _of_one_label(report: Report) -> dict[str, float]:
    figures = {
        "accuracy": report.accuracy,
        "macro F1": report.macro_f1,
        "log-loss": report.log_loss,
        "expected calibration error": report.calibration_error,
    }
    if report.abstention is not None:
        figures |= {"answered": report.abstention.answered, "errors among answers": report.abstention.errors}
    if report.scope is not None:
        figures["in scope, accepted"] = report.scope.accepted
        if report.scope.auroc is not None and report.scope.rejected is not None:
            figures |= {"out of scope, found": report.scope.rejected, "out of scope, AUROC": report.scope.auroc}
    return figures
