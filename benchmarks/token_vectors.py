"""What token vectors of the default model add to its search: rescoring by MaxSim, and late chunking.

    python -m benchmarks.token_vectors --data FOLDER

FOLDER holds ``scifact``, ``cranfield`` and ``xquad_retrieval``. Rescoring: the 50 nearest documents of each query are
ranked again by MaxSim over the vectors of their tokens (ColBERT, Khattab and Zaharia 2020) added to the cosine: over
whole vectors, and over the codes of ``search(rescore="tokens")``. Late chunking (Günther and others, 2024): articles of
XQuAD are read as a whole and their paragraphs pooled from its tokens, beside paragraphs that are read alone; there a
token's vector is its hidden state through the Dense layer.
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
from index.rescoring.rescorer import COSINE, DEPTH
from index.rescoring.token_codes import maxsim, pack, projected

RESULT = Path(__file__).parent / "results" / "token_vectors.json"
DENSE = "head.1.linear.weight.fp32"
SHARES = 0.0, 0.1, 0.2, 0.3, 0.4, 0.5  # of the cosine in the score


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


def rescoring(encoder: OnnxEncoder, task: Task) -> dict[str, Any]:
    """nDCG@10 of the cosine, with whole token vectors, and with the codes that collections keep, by share."""
    judged = read_retrieval(task)
    cosines = encoder.encode_query(judged.queries) @ encoder.encode_document(judged.documents).T
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :DEPTH]
    candidates = np.unique(nearest).tolist()
    vectors = dict(zip(candidates, _token_vectors(encoder, [judged.documents[one] for one in candidates]), strict=True))
    codes = {one: pack(of.astype(np.float32)) for one, of in vectors.items()}
    figures: dict[str, dict[str, list[float]]] = {"whole": {}, "codes": {}}
    plain, spent = [], []
    for query, row, gains, own in zip(
        encoder.token_vectors(judged.queries, role="query"), nearest, judged.relevant, cosines, strict=True
    ):
        plain.append(ndcg(row, gains))
        begun = time.perf_counter()
        by_codes = maxsim(projected(query), [codes[one] for one in row.tolist()])
        spent.append(time.perf_counter() - begun)
        whole = np.array([(query @ vectors[one].T.astype(np.float32)).max(axis=1).mean() for one in row.tolist()])
        for name, alike in (("whole", whole), ("codes", by_codes)):
            for share in (*SHARES, COSINE):
                order = np.argsort(-(share * own[row] + (1 - share) * alike), kind="stable")
                figures[name].setdefault(f"{share:g}", []).append(ndcg(row[order], gains))
    return {
        "queries": len(judged.queries),
        "cosine": _mean(plain),
        "shipped": _mean(figures["codes"][f"{COSINE:g}"]),
        **{name: {share: _mean(of) for share, of in shares.items()} for name, shares in figures.items()},
        "bytes_a_document": round(sum(one.size for one in codes.values()) / len(codes)),
        "rescoring_ms": round(1000 * float(np.median(spent)), 2),
    }


def _token_vectors(encoder: OnnxEncoder, texts: list[str]) -> list[Any]:
    """In float16, which holds them in memory."""
    made: list[Any] = []
    for start in range(0, len(texts), 256):
        some = encoder.token_vectors(texts[start : start + 256], role="document")
        made += [vectors.astype(np.float16) for vectors in some]
    return made


def _mean(values: list[float]) -> float:
    return round(100 * float(np.mean(values)), 2)


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
        result["rescoring"][task.name] = rescoring(tokens.encoder, task)
        click.echo(f"{task.name} {json.dumps(result['rescoring'][task.name])}")
    result["late chunking"] = late_chunking(tokens, *public_tasks(data, ("xquad-en",)))
    click.echo(f"late chunking {json.dumps(result['late chunking'])}")
    write_json(RESULT, result)


if __name__ == "__main__":
    main()
