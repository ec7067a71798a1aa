"""An encoder adapted to a few labels, over the model that ships."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from encoder_tools import OnnxEncoder
from encoder_tools.errors import InputError
from encoder_tools.training.few_shot import Adapter, FewShot, batches_of, pair_loss
from heads import load_head
from service.cli import cli
from service.workflows import few_shot as adapting

QUESTIONS = {
    "person": [
        "Who wrote Hamlet ?",
        "Who was the first man on the moon ?",
        "What actor played Rocky ?",
        "Who is she ?",
    ],
    "place": ["Where is Oslo ?", "What country is north of Spain ?", "In which city is the Louvre ?", "Where is it ?"],
    "number": ["How many moons has Mars ?", "When was Rome founded ?", "How old is the sun ?", "How far is it ?"],
}
ROWS = [{"text": text, "label": label} for label, texts in QUESTIONS.items() for text in texts]


def test_the_loss_is_that_of_all_pairs():
    vectors = torch.nn.functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    targets = torch.tensor([0, 0, 1, 1, 1, 2])
    drawn, pushed = [], []
    for i in range(6):
        for j in range(6):
            cosine = float(vectors[i] @ vectors[j])
            if i != j and targets[i] == targets[j]:
                drawn.append((1 - cosine) ** 2)
            elif targets[i] != targets[j]:
                pushed.append(max(0.0, cosine) ** 2)
    assert float(pair_loss(vectors, targets)) == pytest.approx(np.mean(drawn) + np.mean(pushed), rel=1e-5)
    assert float(pair_loss(vectors[:1], targets[:1])) == 0


def test_every_text_comes_once_an_epoch_and_with_others_of_its_label():
    targets = np.repeat(np.arange(30), 8)
    batches = batches_of(targets, FewShot(), np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(240))
    assert max(map(len, batches)) == 64
    for batch in batches:
        assert (np.unique(targets[batch], return_counts=True)[1] % 4 == 0).all()


def test_a_head_and_its_adapted_model_are_written_together(tmp_path: Path):
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS * 2))
    arguments = ["head", "fit", str(tmp_path / "train.jsonl"), str(tmp_path / "head"), "--few-shot"]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "adapted in" in result.output
    encoder = OnnxEncoder(tmp_path / "head-model")
    assert encoder.fingerprint != OnnxEncoder("default").fingerprint
    head = load_head(tmp_path / "head", encoder=encoder)
    assert head.predict(encoder.encode(["Who painted it ?", "Where is Rome ?"])).tolist() == ["person", "place"]
    vectors = encoder.encode([row["text"] for row in ROWS])
    before = OnnxEncoder("default").encode([row["text"] for row in ROWS])
    same = np.array([row["label"] for row in ROWS])[:, None] == np.array([row["label"] for row in ROWS])[None, :]
    gap = lambda v: (v @ v.T)[same].mean() - (v @ v.T)[~same].mean()  # noqa: E731
    assert gap(vectors) > gap(before) + 0.1
    word = "embed_tokens.weight"
    tables = [
        Adapter(base, tmp_path / str(n)).model[0].auto_model.state_dict()[word]
        for n, base in enumerate(("default", tmp_path / "head-model"))
    ]
    assert torch.equal(*tables)


def test_the_model_stays_where_adapting_does_not_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tries = iter([adapting.HeldOutQuality(0.8, 0.2, 1.0), adapting.HeldOutQuality(0.9, 0.3, 1.0)])
    monkeypatch.setattr(adapting, "trial_of", lambda *_: next(tries))
    said: list[str] = []
    texts, labels = [row["text"] for row in ROWS], np.array([row["label"] for row in ROWS])
    chosen = adapting.adapt_if_it_helps("default", texts, labels, tmp_path / "m", FewShot(epochs=1), log=said.append)
    assert (chosen.model, (tmp_path / "m").exists()) == (None, False)
    assert "stays as it is" in said[-1]


def test_one_label_cannot_be_adapted_to(tmp_path: Path):
    with pytest.raises(InputError, match="two labels"):
        Adapter("default", tmp_path).adapt(["a", "b"], np.array(["x", "x"]), FewShot())


def test_labels_of_no_single_kind_are_not_for_few_shot(tmp_path: Path):
    (tmp_path / "t.jsonl").write_text('{"text": "a", "label": "b"}\n')
    arguments: list[Any] = [
        "head",
        "fit",
        str(tmp_path / "t.jsonl"),
        str(tmp_path / "h"),
        "--few-shot",
        "--estimator",
        "regression",
    ]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert "one label per text" in result.output


def test_fine_tuned_and_fused_into_one_graph(tmp_path: Path):
    """Text to probabilities in one call of onnxruntime, with the labels in the file."""
    import onnxruntime

    rows = [
        {"text": f"{word}{row['text']}", "label": row["label"]} for word in ("", "Tell me: ", "So, ") for row in ROWS
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    head, model, one = tmp_path / "head", tmp_path / "model", tmp_path / "one"
    arguments = ["head", "fit", str(tmp_path / "train.jsonl"), str(head), "--fine-tune", "--adapted-model", str(model)]
    result = CliRunner().invoke(cli, [*arguments, "--epochs", "2"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(
        cli, ["head", "fuse", str(head), str(one), "--model", str(model)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    encoder = OnnxEncoder(model)
    fitted = load_head(head, encoder=encoder)
    session = onnxruntime.InferenceSession(str(one / "model.onnx"))
    assert json.loads(session.get_modelmeta().custom_metadata_map["labels"]) == list(fitted.labels)
    ids = np.array(encoder.tokenize(["Where is Oslo ?"]))
    found = session.run(["probabilities"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
    np.testing.assert_allclose(found, fitted.predict_proba(encoder.encode(["Where is Oslo ?"])), atol=1e-5)
    assert fitted.labels[int(found.argmax())] == "place"


def test_what_cannot_be_fused_is_said():
    from heads import FittedHead
    from heads.serving.scorers import Linear, Neighbors
    from service.workflows.fuse import fuse

    encoder = OnnxEncoder("default")
    near = Neighbors(np.eye(2, encoder.dim, dtype=np.float32), np.array([0, 1]), 2, 1, 10.0, 0.1)
    number = FittedHead(Linear(np.ones((1, encoder.dim)), np.zeros(1)), ("value",), None, link="identity")
    for head in (FittedHead(near, ("a", "b"), None), number):
        with pytest.raises(InputError, match="cannot be fused"):
            fuse(encoder, head, Path("nowhere"))


@pytest.mark.parametrize("extra", [["--fine-tune"], ["--max-error-rate", "0.1"]])
def test_promises_by_what_was_learned_are_refused(tmp_path: Path, extra: list[str]):
    (tmp_path / "t.jsonl").write_text('{"text": "a", "label": "b"}\n')
    result = CliRunner().invoke(
        cli, ["head", "fit", str(tmp_path / "t.jsonl"), str(tmp_path / "h"), "--few-shot", *extra]
    )
    assert result.exit_code != 0
    assert "Choose one" in result.output or "cannot guarantee" in result.output


def test_passes_are_as_many_as_make_two_dozen_steps():
    assert [FewShot().passes(steps) for steps in (1, 4, 5, 10, 19, 500)] == [6, 6, 5, 3, 2, 2]
    assert FewShot(epochs=9).passes(500) == 9


def test_the_trial_is_scored_by_hand():
    class Fixed:
        def encode(self, texts: list[str]):
            return np.array([[1.0, 0.0] if text < "m" else [0.0, 1.0] for text in texts], dtype=np.float32)

    trial = adapting.trial_of(
        Fixed(), ["a", "b", "x", "y"], np.array([0, 0, 1, 1]), ["c", "z", "d"], np.array([0, 1, 1])
    )  # type: ignore[arg-type]
    assert trial.accuracy == pytest.approx(2 / 3)
    # the best temperature says 2/3 of what is right two times in three: two times 2 (1/3)^2 and once 2 (2/3)^2
    assert trial.brier == pytest.approx((2 * 2 / 9 + 8 / 9) / 3, abs=0.01)


def test_a_dozen_texts_judged_right_do_not_ask_for_certainty():
    targets = np.arange(12) % 3
    scores = 5 * np.eye(3, dtype=np.float32)[targets]
    share = adapting.softmax(adapting.cautious_temperature(scores, targets) * scores).max(axis=1)
    assert share == pytest.approx(1 - 2 / 3 / 13, abs=1e-3)  # the thirteenth is of each label to a third
    many = np.tile(scores, (20, 1))
    assert adapting.cautious_temperature(many, np.tile(targets, 20)) > 2 * adapting.cautious_temperature(
        scores, targets
    )
