import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from encoder_tools.errors import FileCorruptError, FileMissingError, FingerprintError, InputError
from encoder_tools.io.files import sha256_of
from heads import FittedHead, LinearHead, load_head, save_head
from heads.serving.serialization import _checksum


@pytest.fixture
def saved(tmp_path: Path, head: LinearHead):
    save_head(head, tmp_path / "head")
    return tmp_path / "head"


def edit(saved: Path, **changes: Any):
    """Change the description, and its checksum with it."""
    path = saved / "head.json"
    changed = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(changed | {"checksum": _checksum(changed)}))


def swap_tensors(saved: Path, data: bytes):
    path = saved / "head.safetensors"
    path.write_bytes(data)
    edit(saved, sha256={path.name: sha256_of(path)})


def test_round_trip_is_exact(saved: Path, head: LinearHead):
    loaded, fitted = load_head(saved, fingerprint="words-32"), head.to_fitted()
    for name, tensor in fitted.scorer.tensors().items():
        assert loaded.scorer.tensors()[name].tobytes() == tensor.tobytes()
    assert (loaded.labels, loaded.fingerprint) == (("animal", "colour", "place"), "words-32")


@pytest.mark.parametrize("labels", [(0, 1), (False, True), (0.5, 1.5), ("naïve", "🙂")])
def test_labels_keep_their_type(tmp_path: Path, labels: Any):
    save_head(FittedHead.linear(np.eye(2), np.zeros(2), labels, "f"), tmp_path / "head")
    assert [(type(x), x) for x in load_head(tmp_path / "head").labels] == [(type(x), x) for x in labels]


def test_another_models_head_is_refused_with_the_way_out(saved: Path):
    with pytest.raises(FingerprintError, match="fit the head again"):
        load_head(saved, fingerprint="other")


def test_a_head_of_an_unknown_model_is_refused_where_one_is_asked_for(tmp_path: Path):
    save_head(FittedHead.linear(np.eye(2), np.zeros(2), ("a", "b"), None), tmp_path / "head")
    with pytest.raises(FingerprintError, match="unknown model"):
        load_head(tmp_path / "head", fingerprint="f")


def test_an_older_head_is_only_replaced_when_asked(saved: Path, head: LinearHead):
    with pytest.raises(InputError, match="overwrite"):
        save_head(head, saved)
    save_head(head, saved, overwrite=True)
    assert load_head(saved).dim == 32


def test_label_with_a_lone_surrogate_writes_nothing(tmp_path: Path):
    with pytest.raises(InputError, match="surrogate"):
        save_head(FittedHead.linear(np.eye(2), np.zeros(2), ("a", "\ud800"), None), tmp_path / "head")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["head.json", "head.safetensors"])
def test_a_missing_file_is_named(saved: Path, name: str):
    (saved / name).unlink()
    with pytest.raises(FileMissingError, match=name):
        load_head(saved)


@pytest.mark.parametrize("name", ["head.json", "head.safetensors"])
@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2], lambda d: b"", lambda d: pickle.dumps([1]), None])
def test_damaged_files_give_one_clear_error(saved: Path, name: str, damage: Any):
    path = saved / name
    data = path.read_bytes()
    path.unlink()
    if damage is None:
        path.mkdir()
    else:
        path.write_bytes(damage(data))
    with pytest.raises(FileCorruptError) as caught:
        load_head(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [{"labels": ["colour", "animal", "place"]}, {"fingerprint": "other"}, {"versions": {}}, {"checksum": None}],
)
def test_a_description_that_was_changed_is_detected(saved: Path, changes: dict[str, Any]):
    path = saved / "head.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(FileCorruptError, match="was changed"):
        load_head(saved)


@pytest.mark.parametrize("earlier", [1, 2])
def test_heads_of_earlier_formats_are_read(saved: Path, head: LinearHead, earlier: int):
    path = saved / "head.json"
    known = ("format", "kind", "dim", "fingerprint", "space", "labels", "sha256", "versions")
    content = {name: json.loads(path.read_text())[name] for name in known} | {"format_version": earlier}
    path.write_text(json.dumps(content | ({"checksum": _checksum(content)} if earlier == 2 else {})))
    vectors = np.eye(32)
    assert load_head(saved).labels == head.to_fitted().labels
    np.testing.assert_array_equal(load_head(saved).predict_proba(vectors), head.to_fitted().predict_proba(vectors))


def test_a_flipped_bit_is_detected(saved: Path):
    path = saved / "head.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileCorruptError, match="not the file"):
        load_head(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "x"}, {"format_version": 4}, {"format_version": True}, {"kind": "tree"},
        {"labels": ["a", "b", 2**70]}, {"labels": [1, 2, 2**70]}, {"dim": 31}, {"labels": ["a", "b"]},
        {"labels": None}, {"labels": ["a", "a", "b"]}, {"labels": [["a"], "b", "c"]}, {"labels": ["a", 1, "b"]},
        {"labels": [1, 2, float("nan")]}, {"fingerprint": 3}, {"sha256": "x"},
        {"kind": "mlp"}, {"kind": "knn"}, {"kind": ["linear"]}, {"link": "sigmoid"}, {"link": "x"},
        {"settings": {"k": "x"}},
        {"calibration": {"method": "platt", "factor": 1}}, {"calibration": {"method": "x", "factor": 1}},
        {"calibration": {"method": "temperature", "factor": 0}},
        {"scope": {"kinds": ["x"], "threshold": 0, "accepts": 1}},
        {"abstention": {"below": 2, "promise": "errors", "level": 0.1, "confidence": None, "examples": 3}},
    ],
)  # fmt: skip
def test_a_description_that_does_not_fit_is_refused(saved: Path, changes: Any):
    edit(saved, **changes)
    with pytest.raises(FileCorruptError):
        load_head(saved)


ONE = np.ones((3, 32), np.float32)


@pytest.mark.parametrize(
    "tensors",
    [
        {"weights": ONE}, {"weights": ONE, "bias": ONE}, {"weights": ONE * np.nan, "bias": ONE[:, 0]},
        {"weights": ONE.astype(np.float64), "bias": ONE[:, 0]}, {"weights": ONE, "bias": ONE[0]},
    ],
)  # fmt: skip
def test_tensors_of_another_shape_are_refused(saved: Path, tensors: Any):
    swap_tensors(saved, save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}))
    with pytest.raises(FileCorruptError):
        load_head(saved)


@pytest.mark.parametrize("data", [b"\xff" * 64, (2**62).to_bytes(8, "little") + b"{}", pickle.dumps({"weights": 1})])
def test_hostile_tensor_files_are_refused(saved: Path, data: bytes):
    swap_tensors(saved, data)
    with pytest.raises(FileCorruptError, match="safetensors"):
        load_head(saved)
