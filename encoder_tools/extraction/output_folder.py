"""The Sentence Transformers files around an encoder: modules, pooling, dense layers, normalize, prompts, card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoder_tools.errors import InputError
from encoder_tools.extraction.report import ExtractionReport
from encoder_tools.io.files import write_bytes, write_json

POOLINGS = {"mean": "mean", "cls": "cls", "last": "lasttoken", "weighted-mean": "weightedmean", "max": "max"}
"""Pooling modes as users call them, and as sentence-transformers does."""

_PACKAGE = "sentence_transformers"
_MODULE_CLASSES = {
    "Transformer": f"{_PACKAGE}.base.modules.transformer.Transformer",
    "Pooling": f"{_PACKAGE}.sentence_transformer.modules.pooling.Pooling",
    "Dense": f"{_PACKAGE}.base.modules.dense.Dense",
    "Normalize": f"{_PACKAGE}.base.modules.normalize.Normalize",
}
_DENSE_SEED = 0
_WIDEST = 65_536  # no embedding model comes near; more would fill memory with random numbers


@dataclass(frozen=True)
class Head:
    """What comes after the encoder.

    :ivar pooling: a key of :data:`POOLINGS`.
    :ivar dense: output widths of linear layers without bias or activation, as EmbeddingGemma has them.
    :ivar normalize: end in unit vectors.
    """

    pooling: str = "mean"
    dense: tuple[int, ...] = ()
    normalize: bool = True

    def check(self) -> None:
        """:raises InputError: if the pooling is unknown or a width is out of range."""
        if self.pooling not in POOLINGS:
            raise InputError(f"Unknown pooling {self.pooling!r}; expected one of {', '.join(POOLINGS)}.")
        if any(
            isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= _WIDEST for width in self.dense
        ):
            raise InputError(f"dense is {list(self.dense)}, expected positive widths of at most {_WIDEST}.")


def write_head(folder: Path, hidden: int, head: Head) -> None:
    """Write everything but the transformer itself.

    :param hidden: width of the token vectors.
    """
    kinds = ["Transformer", "Pooling", *("Dense" for _ in head.dense), *(["Normalize"] if head.normalize else [])]
    modules: list[dict[str, object]] = []
    for number, kind in enumerate(kinds):
        path = "" if kind == "Transformer" else f"{number}_{kind}"
        modules.append({"idx": number, "name": str(number), "path": path, "type": _MODULE_CLASSES[kind]})
        if path:
            (folder / path).mkdir()
    write_json(folder / "modules.json", modules)
    write_json(
        folder / "sentence_bert_config.json",
        {
            "transformer_task": "feature-extraction",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            "module_output_name": "token_embeddings",
        },
    )
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "model_type": "SentenceTransformer",
            "prompts": {"query": "", "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )
    pooling = {"embedding_dimension": hidden, "pooling_mode": POOLINGS[head.pooling], "include_prompt": True}
    write_json(folder / "1_Pooling" / "config.json", pooling)
    _write_dense(folder, hidden, head.dense)
    if head.normalize:
        ends = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
        write_json(folder / f"{len(kinds) - 1}_Normalize" / "config.json", ends)


def write_card(folder: Path, report: ExtractionReport) -> None:
    """Write ``README.md``: where the model comes from and what was shown about it."""
    head = f"{report.pooling} pooling" + "".join(f", dense {width}" for width in report.dense)
    head += ", normalize" if report.normalize else ""
    lines = [
        "---",
        "library_name: sentence-transformers",
        "pipeline_tag: feature-extraction",
        "---",
        f"# Encoder of {Path(report.source).name or report.source}",
        "",
        f"Cut out by encoder-tools from `{report.source}`"
        + (f" at revision `{report.revision}`" if report.revision else "")
        + f"; {head}; at most {report.max_length} tokens.",
        "It is a raw encoder: train it on pairs before you rely on its vectors.",
        "",
        "```",
        report.to_text(),
        "```",
        "",
        "```python",
        "from sentence_transformers import SentenceTransformer",
        "",
        "vectors = SentenceTransformer(folder).encode(texts)",
        "```",
        "",
        "The license is that of the source.",
    ]
    write_bytes(folder / "README.md", ("\n".join(lines) + "\n").encode("utf-8"))


def _write_dense(folder: Path, width: int, widths: Sequence[int]) -> None:
    """Dense layers with a seeded start that keeps lengths (scaled normal), to be trained."""
    from safetensors.numpy import save

    generator = np.random.default_rng(_DENSE_SEED)
    for number, out in enumerate(widths, start=2):
        weight = generator.standard_normal((out, width)).astype(np.float32) / np.float32(np.sqrt(out))
        config = {
            "in_features": width,
            "out_features": out,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
            "module_input_name": "sentence_embedding",
            "module_output_name": "sentence_embedding",
        }
        write_json(folder / f"{number}_Dense" / "config.json", config)
        write_bytes(folder / f"{number}_Dense" / "model.safetensors", save({"linear.weight": weight}))
        width = out
