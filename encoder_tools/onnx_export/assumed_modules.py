"""The modules that sentence-transformers assumes for a plain transformer: the body, and mean pooling."""

from __future__ import annotations

from pathlib import Path

from encoder_tools.aliases import Log
from encoder_tools.io.files import read_json, write_json
from encoder_tools.model.model_folder import is_classifier

_PACKAGE = "sentence_transformers.models"
_WIDTHS = ("hidden_size", "d_model", "dim", "n_embd", "emb_dim")


def add_assumed_modules(folder: Path, log: Log) -> None:
    """Write ``modules.json`` and ``1_Pooling/config.json`` into the folder of a plain encoder that has none.

    Encoder-decoders and classifiers are left as they are: they are no embedding models yet.

    :raises SaveError: if the folder cannot be written to.
    """
    if (folder / "modules.json").exists() or not (folder / "config.json").is_file():
        return
    config = read_json(folder / "config.json")
    width = next((config[key] for key in _WIDTHS if key in config), None)
    if config.get("is_encoder_decoder") or is_classifier(config) or not isinstance(width, int):
        return
    (folder / "1_Pooling").mkdir(exist_ok=True)
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, "pooling_mode": "mean"})
    write_json(
        folder / "modules.json",
        [
            {"idx": 0, "name": "0", "path": "", "type": f"{_PACKAGE}.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{_PACKAGE}.Pooling"},
        ],
    )
    log(f"{folder} had no modules.json: it now says mean pooling, as sentence-transformers takes such a model")
