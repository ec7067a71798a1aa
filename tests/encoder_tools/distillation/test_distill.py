from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from encoder_tools.distillation.student.architectures import StudentShape, make_body, open_branches, start_table
from encoder_tools.distillation.student.model import Student, save_student
from encoder_tools.distillation.student.unigram import pieces, save_tokenizer, train_tokenizer
from encoder_tools.distillation.student.weight_grid import on_grid, snap
from encoder_tools.distillation.texts import join_texts
from encoder_tools.errors import FileMissingError, FingerprintError
from encoder_tools.extraction.proof_texts import long_text, sample_texts
from encoder_tools.training.engine.schedule import batches
from encoder_tools.training.objectives.losses import cosine_loss, geometry_loss
from encoder_tools.training.objectives.teacher_vectors import TeacherVectors
from recipes.default_model.corpus import read_corpus

SHAPE = StudentShape(vocab_size=120, hidden=16, layers=2, heads=2, key_value_heads=1, head_dim=8, mlp=24, width=20)
ENGLISH = [*(text for text in sample_texts() if text.isascii()), long_text(280)]


class CountingTeacher:
    """A teacher whose vectors depend on the text alone, and which counts what it encodes."""

    dim, fingerprint = 20, "teacher-a"

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, texts: list[str]) -> np.ndarray:
        self.encoded.extend(texts)
        return np.stack([np.random.default_rng(list(text.encode())).standard_normal(self.dim) for text in texts])

    encode_query = encode_document = encode


def student() -> Student:
    torch.manual_seed(0)
    return Student(SHAPE, make_body(SHAPE))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "stsb").mkdir()
    (tmp_path / "pairs").mkdir()
    with gzip.open(tmp_path / "stsb" / "test.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(
            json.dumps({"sentence1": "A man is eating food.", "sentence2": "Short one. A dog runs in the green park."})
        )
    rows = [
        "tatoeba\tThe weather is fine today.",
        "tatoeba\tThe weather is fine, today!",  # the same letters
        "tatoeba\ta MAN is eating food",  # in a test split
        "clinc150\tI saw it. A dog runs in the green park. Really.",  # holds a sentence of a test split
        "multi30k\tTwo people ride bicycles down a hill.",  # may not ship
        "tatoeba\ttiny",
    ]
    with gzip.open(tmp_path / "sentences.tsv.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(["source\ttext", *rows]) + "\n")
    from recipes.default_model.corpus import PAIR_LICENCES

    for name in PAIR_LICENCES:
        with gzip.open(tmp_path / "pairs" / f"{name}.tsv.gz", "wt", encoding="utf-8") as file:
            file.write(f"anchor\tpositive\nanchor of {name}\tpositive of {name}\n")
    with gzip.open(tmp_path / "pairs" / "simplify_asset.tsv.gz", "wt", encoding="utf-8") as file:
        file.write("anchor\tpositive\nnon-commercial anchor\tnon-commercial positive\n")
    return tmp_path


def test_the_corpus_holds_only_what_may_ship_and_no_test_sentence(data: Path):
    corpus = read_corpus(data, seed=1)
    assert "The weather is fine today." in corpus.texts
    assert corpus.kept["tatoeba"] == 1
    assert corpus.held_out == {"tatoeba": 1, "clinc150": 1}
    assert not any("bicycles" in text or "non-commercial" in text or text == "tiny" for text in corpus.texts)
    assert read_corpus(data, seed=1).texts == corpus.texts


def test_held_out_texts_are_drawn_from_all_of_the_corpus(tmp_path: Path):
    from encoder_tools.distillation.recipe import Texts
    from encoder_tools.distillation.texts import read_texts

    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("".join(f"{name} {number}\n" for number in range(300)))
    settings = Texts(files=("a.txt", "b.txt"), held_out=100, most=500)
    found = read_texts(settings, tmp_path, seed=1)
    assert len(found.texts) == len(set(found.texts)) == 500
    assert [source[0] for source in found.sources] == [text[0] for text in found.texts]
    assert 20 < sum(text.startswith("a") for text in found.texts[400:]) < 80
    assert found == read_texts(settings, tmp_path, seed=1)
    assert set(found.texts[400:]) != set(read_texts(settings, tmp_path, seed=2).texts[400:])


def test_a_folder_without_texts_is_named(tmp_path: Path):
    with pytest.raises(FileMissingError, match=r"sentences\.tsv\.gz"):
        read_corpus(tmp_path, seed=1)


def test_teacher_vectors_are_computed_once_and_found_by_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("encoder_tools.training.objectives.teacher_vectors._CHUNK", 2)
    teacher = CountingTeacher()
    TeacherVectors(tmp_path, teacher).ensure(["a", "b", "ccc", "a"], lambda _: None)
    again = TeacherVectors(tmp_path, teacher)
    again.ensure(["ccc", "d", "a"], lambda _: None)
    assert sorted(teacher.encoded) == ["a", "b", "ccc", "d"]
    np.testing.assert_allclose(again.lookup(["d", "a", "b"]), teacher.encode(["d", "a", "b"]), atol=2e-3)


def test_a_chunk_cut_short_is_computed_again(tmp_path: Path):
    TeacherVectors(tmp_path, CountingTeacher()).ensure(["a", "bb"], lambda _: None)
    (tmp_path / "vectors-0.npy").unlink()  # keys are written first
    teacher = CountingTeacher()
    store = TeacherVectors(tmp_path, teacher)
    store.ensure(["a", "bb"], lambda _: None)
    assert teacher.encoded == ["a", "bb"]
    assert store.lookup(["bb"]).shape == (1, 20)


def test_another_teacher_is_refused(tmp_path: Path):
    TeacherVectors(tmp_path, CountingTeacher())
    other = CountingTeacher()
    other.fingerprint = "teacher-b"
    with pytest.raises(FingerprintError, match="teacher-a"):
        TeacherVectors(tmp_path, other)


@pytest.mark.parametrize("family", ["gemma3", "t5"])
def test_closed_branches_add_exactly_nothing_and_the_table_is_the_texts_words(family: str):
    shape = replace(SHAPE, family=family)
    torch.manual_seed(0)
    body = make_body(shape).eval()
    table = torch.randn(120, 16)
    start_table(body, shape, table)
    ids, mask = torch.randint(1, 120, (3, 7)), torch.ones(3, 7, dtype=torch.long)

    def read() -> torch.Tensor:
        return body(input_ids=ids, attention_mask=mask).last_hidden_state

    open_branches(body, 0.0)
    normed = table[ids] * torch.rsqrt(table[ids].square().mean(-1, keepdim=True) + shape.norm_epsilon)
    torch.testing.assert_close(read(), normed, atol=1e-5, rtol=1e-5)
    if family == "gemma3":
        open_branches(body, 0.1)
        assert not torch.allclose(read(), normed, atol=1e-3)


@pytest.mark.parametrize("count", [24, 27, 3000])
def test_batches_are_full_visit_each_text_at_most_once_an_epoch_and_can_start_anywhere(count: int):
    lengths = np.random.default_rng(0).integers(1, 15, size=count)
    per_epoch = count // 4  # 750: eleven windows of 64 batches, and part of one
    steps = 2 * per_epoch + 3
    whole = list(batches(lengths, 4, steps, 5, 0))
    assert [step for step, _ in whole] == list(range(steps))
    assert {len(rows) for _, rows in whole} == {4}
    for epoch in (0, 1):
        rows = np.concatenate([rows for _, rows in whole[epoch * per_epoch : (epoch + 1) * per_epoch]])
        assert len(set(rows.tolist())) == len(rows) == per_epoch * 4
    for done in (1, per_epoch - 1, per_epoch, per_epoch + 2, steps - 1):
        late = list(batches(lengths, 4, steps, 5, done))
        assert [step for step, _ in late] == list(range(done, steps))
        assert all(np.array_equal(left[1], right[1]) for left, right in zip(whole[done:], late, strict=True))


def test_a_step_holds_no_more_pieces_than_allowed_and_every_epoch_every_text():
    lengths = np.random.default_rng(0).integers(3, 250, size=5000)
    whole = list(batches(lengths, 128, 900, 5, 0, pieces=2048))
    assert all(len(rows) <= 128 and len(rows) * lengths[rows].max() <= 2048 for _, rows in whole)
    seen: set[int] = set()
    epochs, steps = 0, []
    for step, rows in whole:
        if seen & set(rows.tolist()):
            assert len(seen) == 5000
            seen, epochs = set(), epochs + 1
        seen |= set(rows.tolist())
        steps.append(step)
    assert epochs >= 1
    assert steps == list(range(900))
    for done in (1, 450, 899):
        late = list(batches(lengths, 128, 900, 5, done, pieces=2048))
        assert all(
            left[0] == right[0] and np.array_equal(left[1], right[1])
            for left, right in zip(whole[done:], late, strict=True)
        )


def test_a_text_longer_than_all_pieces_is_a_step_of_its_own():
    lengths = np.array([3, 3, 3, 50])
    assert sorted(len(rows) for _, rows in batches(lengths, 3, 2, 1, 0, pieces=10)) == [1, 3]


def test_joined_texts_keep_every_token_in_its_source_and_its_order():
    random = np.random.default_rng(0)
    ids = [
        np.r_[101, random.integers(1000, 2000, size=random.integers(1, 30)), 102].astype(np.int32) for _ in range(400)
    ]
    sources = ["even" if row % 2 == 0 else "odd" for row in range(400)]
    for row, text in enumerate(ids):
        text[1:-1] += 5000 * (row % 2)  # so that a token tells its source
    joined = join_texts(ids, sources, 0.5, 64, seed=3)
    assert sum(len(text) - 2 for text in joined) == sum(len(text) - 2 for text in ids)
    assert len(joined) < 350
    assert max(map(len, joined)) <= 64
    assert sum(len(text) > 40 for text in joined) > 10
    for text in joined:
        assert (text[0], text[-1]) == (101, 102)
        assert len(set((text[1:-1] // 5000).tolist())) == 1
        assert not {101, 102} & set(text[1:-1].tolist())
    assert all(
        np.array_equal(left, right) for left, right in zip(join_texts(ids, sources, 0.0, 64, seed=3), ids, strict=True)
    )
    again = join_texts(ids, sources, 0.5, 64, seed=3)
    assert all(np.array_equal(left, right) for left, right in zip(joined, again, strict=True))


def test_the_grid_is_idempotent_and_of_255_steps():
    weight = torch.randn(9, 31, generator=torch.Generator().manual_seed(0))
    weight[3] = 0
    once = on_grid(weight)
    torch.testing.assert_close(on_grid(once), once, rtol=1e-6, atol=0)
    steps = once / (once.abs().amax(1, keepdim=True) / 127).clamp(min=1e-12)
    torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=0)
    assert (once - weight).abs().max() <= weight.abs().max() / 127


def test_losses_by_hand():
    left = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    right = torch.tensor([[0.0, 3.0], [0.0, 1.0]])
    assert cosine_loss(left, right) == pytest.approx(0.5)
    assert geometry_loss(left, right) == pytest.approx(0.5)  # off-diagonal 0 against 1, two of four entries


def test_a_saved_student_is_a_sentence_transformers_folder(tmp_path: Path):
    from sentence_transformers import SentenceTransformer

    tokenizer = train_tokenizer(ENGLISH, 120)
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "model").mkdir()
    save_tokenizer(tokenizer, tmp_path / "tokenizer", SHAPE.max_length)
    model = student()
    open_branches(model.body, 0.1)
    snap(model)
    save_student(model, tmp_path / "tokenizer", tmp_path / "model", {"note": 1})
    loaded = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    texts = ["", "The Dog!", "the dog", "42 dogs"]
    ids = [tokenizer.encode(text).ids for text in texts]
    assert ids[0] == [2]
    assert ids[1][:2] == ids[2][:2]  # lower-cased
    with torch.no_grad():
        wanted = [
            model.tokens(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.long))[0].mean(0) for row in ids
        ]
    expected = torch.nn.functional.normalize(torch.stack(wanted), dim=-1).numpy()
    np.testing.assert_allclose(loaded.encode(texts), expected, atol=1e-6)
    assert loaded.max_seq_length == SHAPE.max_length


def test_pieces_are_in_the_order_of_their_ids():
    tokenizer = train_tokenizer(ENGLISH, 120)
    names = pieces(tokenizer)
    assert len(names) == tokenizer.get_vocab_size()
    assert all(
        tokenizer.id_to_token(number).replace("▁", " ").strip() in (name, "") for number, name in enumerate(names)
    )
