"""Quality of the default model on public sets, beside the teacher in whose space it is.

    python -m benchmarks.default_model_quality --data DATA --teacher TEACHER [--cache FOLDER] [MODEL]

Both are encoded by the same runtime and measured by ``encoder_tools.evaluation`` at several widths; the model is also
measured as the encoder of queries over documents by its teacher. TEACHER is an exported all-MiniLM-L6-v2. Figures go to
``benchmarks/results/default_model.json``. With ``--cache``, vectors are kept there and found again by their texts: the
teacher alone takes ten minutes on one core.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np

from encoder_tools.evaluation.evaluate import Figure, evaluate
from encoder_tools.evaluation.tasks import public_tasks
from encoder_tools.io.files import write_json
from encoder_tools.protocols import FloatMatrix
from encoder_tools.runtime import OnnxEncoder

RESULT = Path(__file__).parent / "results" / "default_model.json"
DIMS = (64, 128, 256)
SETS = ("stsb-dev", "stsb-test", "banking77", "xquad-en", "scifact", "cranfield", "clinc150-clusters")
ASYMMETRIC = ("xquad-en", "scifact")


class Remembering:
    """An encoder that keeps what it encoded in a folder."""

    def __init__(self, encoder: OnnxEncoder, folder: Path | None) -> None:
        self._encoder, self._folder = encoder, folder
        self.dim, self.fingerprint, self.name = encoder.dim, encoder.fingerprint, encoder.name

    def encode(self, texts: Sequence[str]) -> FloatMatrix:
        """Plain vectors, float32 (n_texts, dim)."""
        return self._remembered("plain", texts, self._encoder.encode)

    def encode_query(self, texts: Sequence[str]) -> FloatMatrix:
        """Vectors of queries, float32 (n_texts, dim)."""
        return self._remembered("query", texts, self._encoder.encode_query)

    def encode_document(self, texts: Sequence[str]) -> FloatMatrix:
        """Vectors of documents, float32 (n_texts, dim)."""
        return self._remembered("document", texts, self._encoder.encode_document)

    def _remembered(
        self, role: str, texts: Sequence[str], encode: Callable[[Sequence[str]], FloatMatrix]
    ) -> FloatMatrix:
        if self._folder is None:
            return encode(texts)
        key = hashlib.sha256("\0".join([self.fingerprint, role, *texts]).encode()).hexdigest()[:32]
        path = self._folder / f"{key}.npy"
        if not path.is_file():
            self._folder.mkdir(parents=True, exist_ok=True)
            np.save(path, encode(texts), allow_pickle=False)
        vectors: FloatMatrix = np.load(path, allow_pickle=False)
        return vectors


def measure(encoder: Remembering, data: Path, dims: Sequence[int], documents: Remembering | None) -> dict[str, float]:
    """All figures of one model by "set measure @width"; "asymmetric" ones are over documents of another model."""
    figures: list[tuple[str, Figure]] = []
    for task in public_tasks(data, SETS):
        figures += [("", figure) for figure in evaluate(encoder, task, dims=dims)]
        if documents is not None and task.name in ASYMMETRIC:
            figures += [("asymmetric ", figure) for figure in evaluate(encoder, task, documents=documents)]
        print(
            "\n".join(f"{figure.task} {figure.measure} {figure.dim} {figure.value:.4f}" for _, figure in figures[-3:])
        )
    return {f"{kind}{f.task} {f.measure} @{f.dim}": round(f.value, 4) for kind, f in figures}


@click.command()
@click.argument("model", default="default")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of the evaluation sets.")
@click.option("--teacher", required=True, type=click.Path(path_type=Path), help="An exported all-MiniLM-L6-v2.")
@click.option("--cache", type=click.Path(path_type=Path), help="Keep vectors here.")
def main(model: str, data: Path, teacher: Path, cache: Path | None) -> None:
    """Measure, print, and write the result."""
    root, student = (Remembering(OnnxEncoder(name), cache) for name in (teacher, model))
    theirs = measure(root, data, DIMS, None)
    ours = measure(student, data, DIMS, root)
    result = {
        encoder.name: {"fingerprint": encoder.fingerprint, **figures}
        for encoder, figures in ((student, ours), (root, theirs))
    }
    write_json(RESULT, result)


if __name__ == "__main__":
    main()
