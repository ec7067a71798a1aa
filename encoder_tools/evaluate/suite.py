"""The quality of one encoder on the evaluation sets of a data folder."""

from __future__ import annotations

import csv
import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from encoder_tools.evaluate.metrics import few_shot_accuracy, retrieval_quality, sts_spearman
from encoder_tools.protocols import TextEncoder


def sts(encoder: TextEncoder, data: Path, split: str) -> float:
    """Spearman correlation on the STS Benchmark; ``split`` is "dev" or "test"."""
    rows = list(_jsonl(data / "stsb" / f"{split}.jsonl.gz"))
    left = encoder.encode([row["sentence1"] for row in rows])
    right = encoder.encode([row["sentence2"] for row in rows])
    return sts_spearman(left, right, [row["score"] for row in rows])


def classification(encoder: TextEncoder, data: Path, name: str) -> float:
    """Accuracy in MTEB's few-shot protocol on a set with ``train`` and ``test`` files of text and label."""
    train, test = (list(_jsonl(data / name / f"{split}.jsonl.gz")) for split in ("train", "test"))
    return few_shot_accuracy(
        encoder.encode([row["text"] for row in train]),
        [row["label"] for row in train],
        encoder.encode([row["text"] for row in test]),
        [row["label"] for row in test],
    )


def xquad(encoder: TextEncoder, data: Path) -> float:
    """nDCG@10 of finding the English XQuAD paragraph that answers a question."""
    documents = list(_jsonl(data / "xquad_retrieval" / "corpus.en.jsonl.gz"))
    queries = list(_jsonl(data / "xquad_retrieval" / "queries.en.jsonl.gz"))
    judged = {row["id"]: {row["doc_id"]: 1} for row in queries}
    return _retrieval(encoder, documents, queries, judged)


def judged_retrieval(encoder: TextEncoder, data: Path, name: str, part: str = "") -> float:
    """nDCG@10 on a set with ``corpus``, ``queries`` and ``qrels`` files (SciFact with part "test", Cranfield)."""
    suffix = f".{part}" if part else ""
    judged: dict[str, dict[str, int]] = defaultdict(dict)
    with gzip.open(data / name / f"qrels{suffix}.tsv.gz", "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            judged[row["query_id"]][row["doc_id"]] = int(row["relevance"])
    documents = list(_jsonl(data / name / "corpus.jsonl.gz"))
    queries = [row for row in _jsonl(data / name / f"queries{suffix}.jsonl.gz") if str(row["id"]) in judged]
    return _retrieval(encoder, documents, queries, judged)


def _retrieval(
    encoder: TextEncoder,
    documents: list[dict[str, Any]],
    queries: list[dict[str, Any]],
    judged: dict[str, dict[str, int]],
) -> float:
    place = {str(row["id"]): position for position, row in enumerate(documents)}
    texts = [" ".join(filter(None, (row.get("title"), row["text"]))) or " " for row in documents]
    relevant = [{place[doc]: gain for doc, gain in judged[str(row["id"])].items() if doc in place} for row in queries]
    found = retrieval_quality(
        encoder.encode_query([row["text"] for row in queries]), encoder.encode_document(texts), relevant
    )
    return found.ndcg_10


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
