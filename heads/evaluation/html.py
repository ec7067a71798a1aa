"""The report as one HTML file: no script, nothing loaded, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from encoder_tools.io.files import write_bytes
from heads.evaluation.classification import ClassFigures, Report, TestedOn
from heads.evaluation.label_quality import ExamplesReport
from heads.evaluation.multilabel_and_regression import AnyReport, ManyReport, NumberReport
from heads.evaluation.summary import summary
from heads.evaluation.svg import confusion_chart, map_chart, reliability_chart, risk_chart

_MOST_SUSPECTS = 100
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--line:#dde2e9;--paper:#fff;--card:#f6f8fa;--good:#2f7d5b;
--bad:#c2473f;--accent:#3667c9}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa5b4;--line:#313945;--paper:#14181e;--card:#1c222b;
--good:#5cb98d;--bad:#e5766e;--accent:#7da2f0}}
*{box-sizing:border-box}body{margin:0 auto;max-width:66rem;padding:2rem 1.25rem 4rem;background:var(--paper);
color:var(--ink);font:16px/1.5 system-ui,sans-serif}h1{font-size:1.6rem;margin:0 0 .25rem}h2{font-size:1.15rem;
margin:2.5rem 0 .75rem}p{margin:.25rem 0}.note,figcaption{color:var(--soft);font-size:.9rem}.cards{display:grid;
grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));
gap:.75rem;margin:1.25rem 0;padding:0}
.cards div{background:var(--card);border-radius:.6rem;padding:.8rem 1rem}
.cards dt{color:var(--soft);font-size:.82rem}.cards dd{margin:0;font-size:1.35rem;
font-variant-numeric:tabular-nums}.cards small{display:block;color:var(--soft);font-size:.78rem}.charts{display:grid;
grid-template-columns:repeat(auto-fit,minmax(17rem,1fr));gap:1.25rem}figure{margin:0}svg{width:100%;height:auto}
.scroll{overflow:auto;max-height:28rem;border:1px solid var(--line);border-radius:.6rem}table{border-collapse:collapse;
width:100%;font-size:.92rem}th,td{padding:.4rem .75rem;text-align:left;border-bottom:1px solid var(--line);
vertical-align:top}th{position:sticky;top:0;background:var(--card);font-weight:600}td{overflow-wrap:anywhere}td:first-child{min-width:14rem}td.n{min-width:0}td.n,th.n{text-align:right;
font-variant-numeric:tabular-nums;white-space:nowrap}.bar{fill:var(--accent)}.line{fill:none;stroke:var(--accent);
stroke-width:2}.guide{stroke:var(--soft);stroke-dasharray:4 4}.grid{stroke:var(--line)}.mark{fill:var(--bad)}
.right{fill:var(--good)}.wrong{fill:var(--bad)}text{fill:var(--soft);font-size:11px}.map{background:var(--card);
border-radius:.6rem}.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.35rem 1rem;padding:0;font-size:.88rem}
.dot{display:inline-block;width:.7rem;height:.7rem;border-radius:50%;margin-right:.4rem}.confusion{max-width:60rem}
.warn{border-left:3px solid var(--bad);padding-left:.75rem}
"""


def write_page(
    path: Path,
    title: str,
    report: AnyReport | None,
    examples: ExamplesReport | None,
    texts: Sequence[str] = (),
    pool: Sequence[str] = (),
) -> None:
    """Write the report.

    :param texts: of the examples, in the order of ``examples``.
    :param pool: texts without labels that ``examples.following`` speaks of.
    :raises SaveError: if writing fails; what stood there before is untouched.
    """
    sections = [f"<h1>{escape(title)}</h1>"]
    if report is not None:
        sections += _tested(report.tested)
        sections += _figures(report) if isinstance(report, Report) else _other_figures(report)
    if examples is not None:
        sections += _examples(examples, texts, pool)
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
    )
    write_bytes(path, (head + "\n".join(sections) + "</body></html>\n").encode("utf-8", "replace"))


def _tested(tested: TestedOn) -> list[str]:
    rows = [
        f'<p class="note">{tested.texts - tested.out_of_scope} texts in scope, {tested.out_of_scope} out of it.</p>'
    ]
    if tested.leaked:
        rows.append(
            f'<p class="warn">{tested.leaked} of the texts were among the examples that the head was fitted on: the '
            "figures are too good by what they count for.</p>"
        )
    return rows


def _other_figures(report: ManyReport | NumberReport) -> list[str]:
    if isinstance(report, NumberReport):
        return [_cards((name[0].upper() + name[1:], f"{value:.3f}", "") for name, value in summary(report).items())]
    cards = [(name[0].upper() + name[1:], f"{value:.1%}", "") for name, value in summary(report).items()]
    return [_cards(cards), "<h2>Labels</h2>" + _classes(report.classes)]


def _figures(report: Report) -> list[str]:
    cards = [
        ("Accuracy", f"{report.accuracy:.1%}", ""),
        ("Macro F1", f"{report.macro_f1:.1%}", "mean over classes"),
        ("Log-loss", f"{report.log_loss:.3f}", "nats"),
        ("Calibration error", f"{report.calibration_error:.3f}", f"{report.calibration} scaling"),
    ]
    kept = report.abstention
    if kept is not None:
        sure = "on average" if kept.confidence is None else f"{kept.confidence:.0%} sure"
        guarantee = (
            f"at most {kept.level:.1%} wrong" if kept.guarantee == "errors" else f"at least {kept.level:.0%} answered"
        )
        cards += [
            ("Answered", f"{kept.answered:.1%}", f"asked: {guarantee}, {sure}"),
            ("Errors among answers", f"{kept.errors:.2%}", "texts out of scope count as errors"),
        ]
    scope = report.scope
    if scope is not None:
        cards.append(("In scope, accepted", f"{scope.accepted:.1%}", scope.method))
        if scope.auroc is not None and scope.rejected is not None:
            cards.append(("Out of scope, found", f"{scope.rejected:.1%}", ""))
            cards.append(("Scope AUROC", f"{scope.auroc:.3f}", f"{scope.auroc_of_doubt:.3f} by probability alone"))
    parts = [_cards(cards)]
    answered = None if kept is None else (kept.answered, kept.errors)
    parts.append(
        f'<div class="charts">{reliability_chart(report.reliability)}{risk_chart(report.risk_coverage, answered)}</div>'
    )
    parts.append("<h2>Classes</h2>" + _classes(report.classes))
    if report.confused:
        rows = ([escape(str(c.truth)), escape(str(c.given)), c.texts] for c in report.confused)
        parts.append("<h2>Most confused</h2>" + _table(("true label", "taken for", "texts"), rows))
    matrix = confusion_chart(report.confusion, report.labels)
    if matrix:
        parts.append(f"<h2>Confusion matrix</h2>{matrix}")
    return parts


def _classes(classes: Iterable[ClassFigures]) -> str:
    ordered = sorted((row for row in classes if row.texts), key=lambda row: row.f1)
    rows = (
        [escape(str(row.label)), f"{row.precision:.1%}", f"{row.recall:.1%}", f"{row.f1:.1%}", row.texts]
        for row in ordered
    )
    return _table(("label", "precision", "recall", "F1", "texts"), rows)


def _examples(examples: ExamplesReport, texts: Sequence[str], pool: Sequence[str]) -> list[str]:
    parts = ["<h2>Map of the examples</h2>", map_chart(examples.points, examples.labels, texts)]
    suspects = [suspect for suspect in examples.suspects if suspect.other_probability > suspect.probability]
    if suspects:
        rows = (
            [
                escape(texts[s.place]),
                escape(str(s.label)),
                f"{s.probability:.1%}",
                escape(str(s.other)),
                f"{s.other_probability:.1%}",
            ]
            for s in suspects[:_MOST_SUSPECTS]
        )
        parts.append(
            "<h2>Labels that look wrong</h2>"
            f'<p class="note">{len(suspects)} examples whose label a head that was not fitted on them finds less '
            f"probable than another; the first {min(_MOST_SUSPECTS, len(suspects))} are shown.</p>"
            + _table(("text", "label", "", "rather", ""), rows)
        )
    if examples.duplicates:
        labels = {suspect.place: suspect.label for suspect in examples.suspects}
        rows = (
            [
                f"{d.cosine:.3f}",
                escape(texts[d.first]),
                escape(str(labels.get(d.first, ""))),
                escape(texts[d.second]),
                escape(str(labels.get(d.second, ""))),
            ]
            for d in examples.duplicates
        )
        parts.append(
            "<h2>Near-duplicates of different labels</h2>" + _table(("cosine", "text", "label", "text", "label"), rows)
        )
    if examples.following:
        rows = (
            [str(number), escape(pool[n.place]), escape(str(n.best)), f"{n.probability:.1%}", escape(str(n.second))]
            for number, n in enumerate(examples.following, start=1)
        )
        parts.append("<h2>Worth a label next</h2>" + _table(("", "text", "perhaps", "", "or"), rows))
    return parts


def _cards(cards: Iterable[tuple[str, str, str]]) -> str:
    inside = "".join(
        f"<div><dt>{name}</dt><dd>{value}<small>{escape(note)}</small></dd></div>" for name, value, note in cards
    )
    return f'<dl class="cards">{inside}</dl>'


def _table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    rows = list(rows)
    numbers = [all(_is_numeric(row[column]) for row in rows) for column in range(len(names))]
    head = "".join(
        f'<th scope="col"{" class=n" * right}>{name}</th>' for name, right in zip(names, numbers, strict=True)
    )
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _is_numeric(value: object) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and value.rstrip("%").replace(".", "").isdigit())


def _cell(value: object) -> str:
    return f'<td class="n">{value}</td>' if _is_numeric(value) else f"<td>{value}</td>"
