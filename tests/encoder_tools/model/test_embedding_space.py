"""Siblings: models of one space may stand in for each other where they are asked to, and nowhere else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from encoder_tools.errors import FileCorruptError, FingerprintError, InputError
from encoder_tools.model.embedding_space import (
    Agreement,
    Space,
    agreement_of,
    carry_space,
    read_space,
    space_of,
    write_space,
)
from heads import LinearHead, load_head, save_head
from index import Collection

GOOD = Agreement(0.93, 0.61, 500)
WORDS = ["cat", "dog", "fish", "bird", "stone", "rock", "metal", "glass"]


class Encoder:
    """A vector for each word, with some noise of the model's own."""

    dim = 16

    def __init__(self, name: str, noise: float, space: Space | None = None) -> None:
        self.name = self.fingerprint = name
        self.noise = noise
        if space is not None:
            self.space = space

    def encode(self, texts: Any) -> np.ndarray:
        rows = [self._row(text) for text in texts]
        return (np.stack(rows) / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def _row(self, text: str) -> np.ndarray:
        own = np.random.default_rng(list(f"{self.name} {text}".encode())).standard_normal(self.dim)
        return np.random.default_rng(list(text.encode())).standard_normal(self.dim) + self.noise * own

    encode_query = encode_document = encode


ROOT = Encoder("root", 0.0)
STUDENT = Encoder("student", 0.2, Space("root", "root", GOOD))
STRANGER = Encoder("stranger", 0.2)


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    with Collection.create(tmp_path / "words", ROOT) as made:
        made.upsert(WORDS, WORDS)
    return tmp_path / "words"


def test_a_sibling_answers_queries_over_its_roots_vectors_only_when_asked_to(collection: Path):
    with pytest.raises(FingerprintError, match=r"space of root \(mean cosine 0\.930.*--allow-sibling"):
        Collection.open(collection, STUDENT)
    with Collection.open(collection, STUDENT, allow_sibling=True) as found:
        assert found.sibling == "root"
        assert [found.search(word, k=1)[0].id for word in WORDS] == WORDS
    with Collection.open(collection, ROOT, allow_sibling=True) as found:
        assert found.sibling is None


def test_a_sibling_stores_nothing_of_its_own(collection: Path):
    with Collection.open(collection, STUDENT, allow_sibling=True) as found:
        with pytest.raises(InputError, match="only its sibling"):
            found.upsert(["new"], ["new"])
        found.upsert(["new"], ["new"], vectors=ROOT.encode(["new"]))
        assert found.search("new", k=1)[0].id == "new"


@pytest.mark.parametrize("allow", [False, True])
def test_nothing_is_opened_across_spaces(collection: Path, allow: bool):
    with pytest.raises(FingerprintError, match=r"root.*stranger"):
        Collection.open(collection, STRANGER, allow_sibling=allow)


def test_the_root_and_other_students_read_what_a_student_made(tmp_path: Path):
    with Collection.create(tmp_path / "words", STUDENT) as made:
        made.upsert(WORDS, WORDS)
    other = Encoder("other", 0.2, Space("root", "root", GOOD))
    for encoder in (ROOT, other):
        with pytest.raises(FingerprintError, match="allow a sibling"):
            Collection.open(tmp_path / "words", encoder)
        with Collection.open(tmp_path / "words", encoder, allow_sibling=True) as found:
            assert found.search("stone", k=1)[0].id == "stone"


def test_heads_take_siblings_only_when_asked_to(tmp_path: Path):
    texts, labels = WORDS * 3, ["animal"] * 4 + ["thing"] * 4
    save_head(LinearHead(encoder=ROOT, C=10.0).fit(texts, labels * 3), tmp_path / "head")
    assert load_head(tmp_path / "head", encoder=ROOT).space == "root"
    with pytest.raises(FingerprintError, match="allow a sibling"):
        load_head(tmp_path / "head", encoder=STUDENT)
    with pytest.raises(FingerprintError, match="not"):
        load_head(tmp_path / "head", encoder=STRANGER, allow_sibling=True)
    head = load_head(tmp_path / "head", encoder=STUDENT, allow_sibling=True)
    assert head.predict(STUDENT.encode(WORDS)).tolist() == labels


def test_what_was_saved_before_there_were_spaces_is_of_its_models_own_space(collection: Path, tmp_path: Path):
    import sqlite3

    with sqlite3.connect(collection / "collection.db") as database:
        database.execute("DELETE FROM meta WHERE key = 'space'")
    with Collection.open(collection, STUDENT, allow_sibling=True) as found:
        assert found.search("cat", k=1)[0].id == "cat"
    save_head(LinearHead(encoder=ROOT, C=10.0).fit(WORDS, ["a", "b"] * 4), tmp_path / "head")
    file = tmp_path / "head" / "head.json"
    described = json.loads(file.read_text())
    del described["space"], described["checksum"]
    file.write_text(json.dumps(described | {"format_version": 1}))
    assert load_head(tmp_path / "head", encoder=STUDENT, allow_sibling=True).space is None


def test_a_mark_speaks_of_the_weights_it_was_measured_on_alone(tmp_path: Path):
    write_space(tmp_path, "student", Space("root", "MiniLM"), GOOD)
    assert read_space(tmp_path, "student", "x") == Space("root", "MiniLM", GOOD)
    assert read_space(tmp_path, "student trained on", "x") == Space("student trained on", "x")
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "space.json", tmp_path / "copy")
    carry_space(tmp_path, "student", tmp_path / "copy", "student unpacked")
    assert read_space(tmp_path / "copy", "student unpacked", "x") == Space("root", "MiniLM", GOOD)
    carry_space(tmp_path, "another", tmp_path / "copy", "new")
    assert not (tmp_path / "copy" / "space.json").exists()


def test_what_does_not_agree_gets_no_mark(tmp_path: Path):
    with pytest.raises(InputError, match="not of one space"):
        write_space(tmp_path, "student", Space("root", "MiniLM"), Agreement(0.2, -0.5, 500))
    with pytest.raises(InputError, match="Compare with that one"):
        write_space(tmp_path, "grandchild", Space("root", "MiniLM", GOOD), GOOD)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format_version": 9}, "version 9"),
        ({"format": "other"}, "other"),
        ({"root": 3}, "root"),
        ({"agreement": {"mean_cosine": 0.1, "lowest_cosine": 0, "texts": 5}}, r"0\.100"),
        ({"agreement": None}, "agreement"),
    ],
)
def test_a_damaged_mark_is_named(change: dict[str, Any], says: str, tmp_path: Path):
    write_space(tmp_path, "student", Space("root", "MiniLM"), GOOD)
    file = tmp_path / "space.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(FileCorruptError, match=says):
        read_space(tmp_path, "student", "x")


def test_agreement_by_hand():
    ours = np.array([[2.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    theirs = np.array([[1.0, 0.0], [1.0, 1.0]], dtype=np.float32)
    assert agreement_of(ours, theirs) == Agreement(0.8536, 0.7071, 2)
    with pytest.raises(InputError, match="shapes"):
        agreement_of(ours, theirs[:1])
    assert space_of(STRANGER) == Space("stranger", "stranger")


def test_the_commands_mark_a_model_and_serve_it_over_its_roots_collection(tmp_path: Path):
    """The shipped model beside a copy of itself with another maximum length: another fingerprint, the same vectors."""
    from encoder_tools import OnnxEncoder
    from encoder_tools.model.shipped import model_path
    from service.cli import cli
    from service.config import ModelConfig, PartConfig, ServeConfig
    from service.serving.loading import load
    from service.serving.state import ServiceState

    shutil.copytree(model_path("default"), tmp_path / "copy")
    settings = tmp_path / "copy" / "sentence_bert_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "max_seq_length": 64}))
    manifest = tmp_path / "copy" / "onnx" / "export.json"
    (tmp_path / "copy" / "space.json").unlink(missing_ok=True)
    from encoder_tools.model.model_folder import ModelFolder

    content = json.loads(manifest.read_text())
    fingerprint = ModelFolder.open(tmp_path / "copy").fingerprint(content["weights_digest"])
    manifest.write_text(json.dumps({**content, "fingerprint": fingerprint}))
    (tmp_path / "texts.txt").write_text("Where is my card?\nThe weather is fine.\n")
    root = tmp_path / "root"
    shutil.copytree(model_path("default"), root)
    (root / "space.json").unlink(missing_ok=True)
    arguments = ["agreement", str(tmp_path / "copy"), "--space-of", str(root), "--texts", str(tmp_path / "texts.txt")]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert "mean cosine 1.000" in done.output
    assert "mean cosine 1.000" in CliRunner().invoke(cli, ["info", str(tmp_path / "copy")]).output
    with Collection.create(tmp_path / "texts", OnnxEncoder(root)) as texts:
        texts.upsert(["card", "weather"], ["My card is lost.", "It rains."])
    models = {"copy": ModelConfig(str(tmp_path / "copy"))}
    with pytest.raises(FingerprintError, match="--allow-sibling"):
        load(
            ServeConfig(models=models, collections={"texts": PartConfig(str(tmp_path / "texts"), "copy")}),
            ServiceState(),
        )
    allowed = PartConfig(str(tmp_path / "texts"), "copy", allow_sibling=True)
    state = load(ServeConfig(models=models, collections={"texts": allowed}), ServiceState())
    try:
        assert state.registry.collection("texts")[1].shared.value.search("Where is my card?", k=1)[0].id == "card"
    finally:
        state.close()
