"""Quality of exported models on public sets, side by side.

    python benchmarks/default_model_quality.py --data DATA MODEL [MODEL ...]

Every model is encoded by the same runtime and measured by ``encoder_tools.evaluate``. The first MODEL is also measured
at narrower vectors on STS-B. Results go to ``benchmarks/results/default_model.json``; with ``--keep``, a model that is
in it under the same fingerprint is not measured again (the teacher alone takes a quarter of an hour on one core).
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from encoder_tools.evaluate import suite
from encoder_tools.protocols import FloatMatrix
from encoder_tools.runtime import OnnxEncoder

RESULT = Path(__file__).parent / "results" / "default_model.json"
_DIMS = (64, 128, 256)


def measure(encoder: OnnxEncoder, data: Path) -> dict[str, float]:
    """All figures of one model."""
    return {
        "stsb_dev_spearman": suite.sts(encoder, data, "dev"),
        "stsb_test_spearman": suite.sts(encoder, data, "test"),
        "banking77_accuracy_8_per_label": suite.classification(encoder, data, "banking77"),
        "xquad_en_ndcg_10": suite.xquad(encoder, data),
        "scifact_test_ndcg_10": suite.judged_retrieval(encoder, data, "scifact", "test"),
        "cranfield_ndcg_10": suite.judged_retrieval(encoder, data, "cranfield"),
    }


class Narrow:
    """An encoder cut to fewer dimensions."""

    def __init__(self, encoder: OnnxEncoder, dim: int) -> None:
        self._encoder, self.dim, self.fingerprint = encoder, dim, encoder.fingerprint

    def encode(self, texts: list[str]) -> FloatMatrix:
        """Prefixes of the vectors, normalised again."""
        return self._encoder.encode(texts, dim=self.dim)

    encode_query = encode_document = encode


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of the evaluation sets.")
@click.option("--keep", is_flag=True, help="Keep the figures of models that have not changed.")
def main(models: tuple[Path, ...], data: Path, keep: bool) -> None:
    """Measure, print, and write the result."""
    known = json.loads(RESULT.read_text(encoding="utf-8")) if keep and RESULT.is_file() else {}
    result: dict[str, object] = {}
    for number, model in enumerate(models):
        encoder = OnnxEncoder(model)
        if known.get(encoder.name, {}).get("fingerprint") == encoder.fingerprint:
            result[encoder.name] = known[encoder.name]
            continue
        figures = {name: round(value, 4) for name, value in measure(encoder, data).items()}
        if number == 0:
            figures |= {
                f"stsb_test_spearman_{dim}_dims": round(suite.sts(Narrow(encoder, dim), data, "test"), 4)  # type: ignore[arg-type]
                for dim in _DIMS
            }
        result[encoder.name] = {"fingerprint": encoder.fingerprint, **figures}
        print(json.dumps({encoder.name: figures}, indent=2))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
