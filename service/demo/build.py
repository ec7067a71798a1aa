"""The demonstration's collection and head, built at the first start and cached."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from encoder_tools.aliases import Log
from encoder_tools.errors import EncoderToolsError
from encoder_tools.io.files import read_json_as, write_json
from encoder_tools.io.staging import staged_folder
from encoder_tools.protocols import FloatMatrix, TextEncoder
from heads import FittedHead, load_head, save_head
from index import Collection
from service.demo.texts import DemoCorpus, LabeledText, corpus_digest, read_corpus

_LAYOUT = 2  # raise it when what is built changes
_REGULARISATION = 30.0  # inverse strength C, chosen on a tenth of the training texts; searching costs a minute
_MOST_ERRORS: float | None = 0.05  # among its answers: it says "don't know" to what it is not sure of
_FIGURES = "figures.json"


@dataclass(frozen=True)
class Figures:
    """How well the model does on the demonstration's own texts, measured when they were embedded.

    :ivar first_hit: share of questions whose paragraph is the first hit.
    :ivar accuracy: share of test texts whose intent is the most probable label.
    :ivar answered: share of them that the head answers instead of saying that it does not know.
    :ivar errors: share of its answers that are wrong.
    """

    paragraphs: int
    questions: int
    first_hit: float
    labels: int
    test_texts: int
    accuracy: float
    answered: float
    errors: float


@dataclass(frozen=True)
class Demo:
    """What the demonstration serves."""

    collection: Collection
    head: FittedHead
    figures: Figures


def default_cache() -> Path:
    """``$XDG_CACHE_HOME/encoder-tools``, or ``~/.cache/encoder-tools``."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "encoder-tools"


def open_demo(encoder: TextEncoder, cache: Path, log: Log) -> Demo:
    """Open what an earlier start built for this model and these texts, or build it.

    :param log: told in one line what takes long.
    :raises SaveError: if the cache cannot be written.
    """
    folder = cache / f"demo-{_LAYOUT}-{encoder.fingerprint[:12]}-{corpus_digest()[:12]}"
    if folder.exists():
        try:
            return _open(folder, encoder)
        except EncoderToolsError as error:
            log(f"the demo's cache is damaged and is built again ({error})")
    _build(folder, encoder, log)
    return _open(folder, encoder)


def _open(folder: Path, encoder: TextEncoder) -> Demo:
    figures = read_json_as(folder / _FIGURES, Figures)
    head = load_head(folder / "head", fingerprint=encoder.fingerprint)
    return Demo(Collection.open(folder / "collection", encoder), head, figures)


def _build(folder: Path, encoder: TextEncoder, log: Log) -> None:
    corpus = read_corpus()
    with staged_folder(folder, overwrite=True) as staged:
        log(f"first start: embedding {len(corpus.paragraphs)} paragraphs and {len(corpus.questions)} questions")
        first_hit = _build_collection(staged / "collection", encoder, corpus)
        log(f"first start: embedding {len(corpus.train) + len(corpus.test)} labeled texts and fitting a classifier")
        head = _fit_head(encoder, corpus.train, log)
        save_head(head, staged / "head")
        accuracy, answered, errors = _measure(head, encoder, corpus.test, log)
        figures = Figures(
            paragraphs=len(corpus.paragraphs),
            questions=len(corpus.questions),
            first_hit=first_hit,
            labels=len(head.labels),
            test_texts=len(corpus.test),
            accuracy=accuracy,
            answered=answered,
            errors=errors,
        )
        write_json(staged / _FIGURES, asdict(figures))


def _build_collection(folder: Path, encoder: TextEncoder, corpus: DemoCorpus) -> float:
    """Store the paragraphs; return the share of questions whose paragraph comes first."""
    with Collection.create(folder, encoder) as collection:
        ids = [paragraph.id for paragraph in corpus.paragraphs]
        collection.upsert(ids, [paragraph.text for paragraph in corpus.paragraphs])
        queries = encoder.encode_query([question.text for question in corpus.questions])
        hits = collection.search_many(queries, k=1)
    correct = [hit[0].id == question.doc_id for hit, question in zip(hits, corpus.questions, strict=True)]
    return float(np.mean(correct))


def _fit_head(encoder: TextEncoder, examples: Sequence[LabeledText], log: Log) -> FittedHead:
    vectors = _encode([example.text for example in examples], encoder, log)
    from heads import LinearHead
    from heads.estimators.pipeline import Examples, RiskGuarantee, fit_head

    labeled = Examples(vectors, np.array([example.label for example in examples]))
    guarantee = RiskGuarantee(max_error_rate=_MOST_ERRORS)
    estimator = LinearHead(C=_REGULARISATION)
    return fit_head(estimator, labeled, guarantee=guarantee, fingerprint=encoder.fingerprint).head


def _measure(
    head: FittedHead, encoder: TextEncoder, examples: Sequence[LabeledText], log: Log
) -> tuple[float, float, float]:
    """Accuracy, the share that is answered, and the share of those answers that is wrong."""
    from heads.evaluation import evaluate

    vectors = _encode([example.text for example in examples], encoder, log)
    quality = evaluate(head, vectors, np.array([example.label for example in examples]))
    if quality.abstention is None:
        return quality.accuracy, 1.0, 1 - quality.accuracy
    return quality.accuracy, quality.abstention.answered, quality.abstention.errors


def _encode(texts: Sequence[str], encoder: TextEncoder, log: Log) -> FloatMatrix:
    """Vectors (n, dim), with a word after every quarter."""
    step = -(-len(texts) // 4)
    parts = []
    for start in range(0, len(texts), step):
        parts.append(encoder.encode(texts[start : start + step]))
        log(f"  {min(start + step, len(texts))} of {len(texts)}")
    return np.concatenate(parts)
