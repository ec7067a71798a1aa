"""What token vectors of the default model add to its search: rescoring by MaxSim, and late chunking.

    python -m benchmarks.token_vectors --data FOLDER

FOLDER holds ``scifact``, ``cranfield`` and ``xquad_retrieval``. Rescoring: the 50 nearest documents of each query are
ranked again by MaxSim over int8 token vectors (ColBERT, Khattab and Zaharia 2020), alone and added to the cosine.
Late chunking (Günther and others, 2024): articles of XQuAD are read as a whole and their paragraphs pooled from its
tokens, beside paragraphs that are read alone. A token's vector is its hidden state through the model's Dense layer.
Figures go to ``benchmarks/results/token_vectors.json``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnxruntime import InferenceSession

from encoder_tools.evaluation.tasks import Passage, Task, public_tasks, read_lines, read_retrieval
from encoder_tools.io.files import write_json
from encoder_tools.runtime import OnnxEncoder
from index.quality.metrics import measure

RESULT = Path(__file__).parent / "results" / "token_vectors.json"
DEPTH, SHARES = 50, (0.0, 0.25, 0.5, 0.75)  # of the cosine in the sum of both, each scaled to [0, 1]
DENSE = "head.1.linear.weight.fp32"


class Tokens:
    """Token vectors of the default model."""

    def __init__(self) -> None:
        self.encoder = OnnxEncoder()
        graph = self.encoder.folder.path / "onnx" / "model.onnx"
        self._session = InferenceSession(str(graph))
        model = onnx.load(str(graph))
        model.graph.output.append(onnx.helper.make_tensor_value_info(DENSE, onnx.TensorProto.FLOAT, None))
        feed = {name: np.ones((1, 4), dtype=np.int64) for name in ("input_ids", "attention_mask")}
        self._dense = InferenceSession(model.SerializeToString()).run([DENSE], feed)[0].T  # (hidden, dim)

    def hidden(self, ids: Sequence[int]) -> Any:
        """The hidden state of each token through the Dense layer (n, dim); their mean has the text's direction."""
        feed = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), dtype=np.int64)}
        return self._session.run(["token_embeddings"], feed)[0][0] @ self._dense

    def of(self, text: str) -> Any:
        """Unit vectors of the tokens of a text as int8 with a step of 1/127, without the first and last token."""
        (ids,) = self.encoder.tokenize([text])
        vectors = self.hidden(ids)[1:-1] if len(ids) > 2 else self.hidden(ids)
        return np.round(127 * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.int8)


def rescoring(tokens: Tokens, task: Task) -> dict[str, Any]:
    """nDCG@10 of the cosine, of MaxSim, and of their sums, over the same candidates."""
    judged = read_retrieval(task)
    cosines = tokens.encoder.encode_query(judged.queries) @ tokens.encoder.encode_document(judged.documents).T
    kept: dict[int, Any] = {}
    figures: dict[str, list[float]] = {"cosine": [], **{f"{share:g} cosine": [] for share in SHARES}}
    spent = []
    for text, row, gains in zip(judged.queries, cosines, judged.relevant, strict=True):
        nearest = np.argsort(-row, kind="stable")[:DEPTH]
        for one in nearest.tolist():
            if one not in kept:
                kept[one] = tokens.of(judged.documents[one])
        own = tokens.of(text).astype(np.float32)
        begun = time.perf_counter()
        scores = np.array([(own @ kept[one].T.astype(np.float32)).max(axis=1).mean() for one in nearest.tolist()])
        spent.append(time.perf_counter() - begun)
        near, alike = _scaled(row[nearest]), _scaled(scores)
        figures["cosine"].append(ndcg(nearest, gains))
        for share in SHARES:
            order = np.argsort(-(share * near + (1 - share) * alike), kind="stable")
            figures[f"{share:g} cosine"].append(ndcg(nearest[order], gains))
    size = sum(one.size for one in kept.values()) / len(kept)
    return {
        "queries": len(judged.queries),
        "ndcg": {key: round(100 * float(np.mean(values)), 2) for key, values in figures.items()},
        "bytes_a_document": round(size),
        "rescoring_ms": round(1000 * float(np.median(spent)), 2),
    }


def _scaled(scores: Any) -> Any:
    width = scores.max() - scores.min()
    return (scores - scores.min()) / width if width else np.ones_like(scores)


def late_chunking(tokens: Tokens, task: Task) -> dict[str, Any]:
    """nDCG@10 of paragraphs that were read alone, and of those that were read in their article."""
    judged = read_retrieval(task)
    ids = [str(passage.id) for passage in read_lines(task.path / f"corpus.{task.part}.jsonl", Passage)]
    articles = [[row for _, row in members] for _, members in groupby(zip(ids, range(len(ids)), strict=True), _article)]
    alone = tokens.encoder.encode_document(judged.documents)
    late = np.concatenate([_in_context(tokens, [judged.documents[row] for row in rows]) for rows in articles])
    asked = tokens.encoder.encode_query(judged.queries)
    result: dict[str, Any] = {"queries": len(judged.queries), "paragraphs": len(ids), "ndcg": {}}
    for name, matrix in (("alone", alone), ("in the article", late)):
        nearest = np.argsort(-(asked @ matrix.T), axis=1, kind="stable")[:, :10]
        scores = [ndcg(row, gains) for row, gains in zip(nearest, judged.relevant, strict=True)]
        result["ndcg"][name] = round(100 * float(np.mean(scores)), 2)
    return result


def ndcg(rows: Any, gains: Mapping[int, int]) -> float:
    """Of a ranking of rows, of the first ten."""
    return measure(rows.tolist(), gains).ndcg


def _article(numbered: tuple[str, int]) -> str:
    """XQuAD calls the paragraphs of an article by its number and their own."""
    return numbered[0].split("-")[0]


def _in_context(tokens: Tokens, paragraphs: list[str]) -> Any:
    """Vectors of paragraphs that were read one behind the other, as many at a time as the model reads."""
    pieces = [ids[1:-1] for ids in tokens.encoder.tokenize(paragraphs)]
    first, last = tokens.encoder.tokenize(["x"])[0][0], tokens.encoder.tokenize(["x"])[0][-1]
    room, vectors, at = (tokens.encoder.max_length or 512) - 2, [], 0
    while at < len(pieces):
        end, length = at, 0
        while end < len(pieces) and (length + len(pieces[end]) <= room or end == at):
            length += len(pieces[end])
            end += 1
        together = [token for piece in pieces[at:end] for token in piece][:room]
        hidden = tokens.hidden([first, *together, last])[1:-1]
        start = 0
        for piece in pieces[at:end]:
            vector = hidden[start : start + len(piece)].mean(axis=0)
            vectors.append(vector / np.linalg.norm(vector))
            start += len(piece)
        at = end
    return np.array(vectors, dtype=np.float32)


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
def main(data: Path) -> None:
    """Measure both and write the figures."""
    tokens = Tokens()
    result: dict[str, Any] = {"rescoring": {}}
    for task in public_tasks(data, ("scifact", "cranfield", "xquad-en")):
        result["rescoring"][task.name] = rescoring(tokens, task)
        click.echo(f"{task.name} {json.dumps(result['rescoring'][task.name])}")
    result["late chunking"] = late_chunking(tokens, *public_tasks(data, ("xquad-en",)))
    click.echo(f"late chunking {json.dumps(result['late chunking'])}")
    write_json(RESULT, result)


if __name__ == "__main__":
    main()
