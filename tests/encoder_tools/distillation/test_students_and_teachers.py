"""Students of every family, from teachers of every kind of tokenizer and pooling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, RobertaConfig, RobertaModel

from encoder_tools import OnnxEncoder
from encoder_tools.distillation.run import distill
from encoder_tools.distillation.student.vocabulary import cut_vocabulary
from encoder_tools.distillation.teacher_cache import TeacherCache
from encoder_tools.onnx_export import export
from encoder_tools.onnx_export.battery import real_sentences

ENGLISH = [text for text in real_sentences() if text.isascii()]
SIZES = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 48}
RECIPE = """
teacher = "teacher"
[texts]
files = ["texts.txt"]
held_out = 10
[student]
layers = 2
heads = 2
key_value_heads = 1
head_dim = 8
mlp = 24
max_length = 64
[vocabulary]
least_count = 2
[training]
steps = 60
batch = 16
warmup = 4
longest = 24
measure_every = 20
save_every = 20
rate = 3e-3
"""


def trained(kind: str) -> Tokenizer:
    """A tokenizer of a kind, trained here, with its special tokens."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    if kind == "WordPiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    elif kind == "BPE":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=500, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=400, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    tokenizer.train_from_iterator(ENGLISH, trainer)
    tokenizer.add_special_tokens(["<later>"])  # beside the model's own vocabulary
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        special_tokens=[("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>"))],
    )
    return tokenizer


def make_teacher(folder: Path, kind: str, pooling: str = "mean", dense: int = 0) -> Path:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained(kind), bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    if kind == "WordPiece":
        body: Any = BertModel(
            BertConfig(vocab_size=len(tokenizer), max_position_embeddings=128, pad_token_id=1, **SIZES)
        )
    else:
        body = RobertaModel(
            RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=130, pad_token_id=1, **SIZES)
        )
    body.save_pretrained(folder / "body")
    tokenizer.save_pretrained(folder / "body")
    modules = [Transformer(str(folder / "body"), max_seq_length=64), Pooling(32, pooling)]
    modules += [Dense(32, dense)] if dense else []
    SentenceTransformer(modules=[*modules, Normalize()], device="cpu").save(str(folder / "teacher"))
    (folder / "texts.txt").write_text("\n".join(ENGLISH) + "\n", encoding="utf-8")
    return folder


def run(root: Path, recipe: str, name: str = "out", **options: Any) -> list[float]:
    """Distil, and return what the log says of unseen texts."""
    (root / "recipe.toml").write_text(recipe)
    assert distill(root / "recipe.toml", root / name, work=root / f"work-{name}", **options)
    rows = [json.loads(line) for line in (root / f"work-{name}" / "train.jsonl").read_text().splitlines()]
    return [row["unseen_cosine"] for row in rows if "unseen_cosine" in row]


@pytest.mark.parametrize("kind", ["WordPiece", "BPE", "Unigram"])
def test_a_vocabulary_of_every_kind_is_cut_and_reads_as_before(kind: str, tmp_path: Path):
    whole = trained(kind)
    whole.save(str(tmp_path / "tokenizer.json"))
    few = ENGLISH[:40]
    cut = cut_vocabulary(tmp_path / "tokenizer.json", few, least_count=1)
    assert len(cut.kept) == cut.tokenizer.get_vocab_size(with_added_tokens=True) < whole.get_vocab_size()
    for text in [*few, "", "<later> here"]:
        assert cut.kept[cut.tokenizer.encode(text).ids].tolist() == whole.encode(text).ids, text
    for text in ENGLISH[40:]:  # what was not needed falls into what is there
        theirs = cut.kept[cut.tokenizer.encode(text).ids].tolist()
        assert letters(whole, theirs) == letters(whole, whole.encode(text).ids)


def letters(tokenizer: Tokenizer, ids: list[int]) -> str:
    return "".join(str(tokenizer.id_to_token(number)).removeprefix("##") for number in ids)


@pytest.mark.parametrize(
    ("kind", "pooling", "dense"),
    [("BPE", "mean", 0), ("Unigram", "cls", 0), ("WordPiece", "mean", 20), ("WordPiece", "cls", 0)],
)
def test_any_sentence_transformers_folder_can_teach(kind: str, pooling: str, dense: int, tmp_path: Path):
    root = make_teacher(tmp_path, kind, pooling, dense)
    cosines = run(root, RECIPE)
    assert cosines[0] < cosines[-1]
    student, teacher = (SentenceTransformer(str(root / name), device="cpu") for name in ("out", "teacher"))
    found, wanted = student.encode(ENGLISH[:50]), teacher.encode(ENGLISH[:50])
    assert found.shape == wanted.shape
    assert (found * wanted).sum(1).mean() > 0.8


@pytest.mark.parametrize(
    "student",
    [
        'family = "t5"\nlayers = 2',
        'family = "t5"\nhidden = 24\nlayers = 2',
        'family = "teacher"\nlayers = 2',
        'start = "static"\nlayers = 2',
        'start = "static"\nhidden = 24\nlayers = 2',
    ],
)
def test_students_of_every_family_and_start_learn_and_can_be_exported(student: str, tmp_path: Path):
    root = make_teacher(tmp_path, "WordPiece")
    cosines = run(root, RECIPE.replace("layers = 2", student))
    assert cosines[0] < cosines[-1]
    assert cosines[-1] > 0.8
    export(root / "out")
    exported, torch_model = OnnxEncoder(root / "out"), SentenceTransformer(str(root / "out"), device="cpu")
    np.testing.assert_allclose(exported.encode(ENGLISH[:20]), torch_model.encode(ENGLISH[:20]), atol=1e-5)


def test_dropped_layers_start_as_the_teachers_own(tmp_path: Path):
    root = make_teacher(tmp_path, "WordPiece")
    run(
        root,
        RECIPE.replace("layers = 2", 'family = "teacher"\nlayers = 4').replace(
            "rate = 3e-3", "rate = 1e-12\ntable_rate = 1e-12"
        ),
    )
    student, teacher = (SentenceTransformer(str(root / name), device="cpu") for name in ("out", "teacher"))
    found, wanted = student.encode(ENGLISH[:50]), teacher.encode(ENGLISH[:50])
    assert (found * wanted).sum(1).min() > 0.99  # the same model, but for its weights on the int8 grid and cut pieces


def test_a_student_with_pieces_of_its_own_learns_from_vectors_alone(tmp_path: Path):
    root = make_teacher(tmp_path, "WordPiece")
    recipe = RECIPE.replace("layers = 2", 'start = "static"\nlayers = 2').replace(
        "least_count = 2", 'kind = "trained"\nmost = 200'
    )
    recipe += "[loss]\ntoken = 0\nmiddle = 0\n"
    cosines = run(root, recipe)
    assert cosines[0] < cosines[-1]
    assert len(SentenceTransformer(str(root / "out"), device="cpu").tokenizer) == 200
    assert run(root, recipe.replace("rate = 3e-3", 'rate = 3e-3\nstates = "kept"'), "kept")[-1] == pytest.approx(
        cosines[-1], abs=2e-3
    )


def test_kept_states_give_the_same_bits_in_slices_and_nearly_those_of_computed_ones(tmp_path: Path):
    torch.set_num_threads(1)
    root = make_teacher(tmp_path, "WordPiece")
    recipe = RECIPE.replace("steps = 60", 'steps = 40\nstates = "kept"')
    (root / "recipe.toml").write_text(recipe)
    for name, slices in (("straight", None), ("sliced", 0.0)):
        while not distill(root / "recipe.toml", root / name, work=root / f"work-{name}", minutes=slices):
            pass
    left, right = (load_file(root / name / "model.safetensors") for name in ("straight", "sliced"))
    assert all(torch.equal(left[name], right[name]) for name in left)
    computed = run(root, recipe.replace('"kept"', '"computed"'), "computed")[-1]
    rows = [json.loads(line) for line in (root / "work-straight" / "train.jsonl").read_text().splitlines()]
    assert rows[-1]["unseen_cosine"] == pytest.approx(computed, abs=2e-3)


def test_kept_states_of_other_texts_are_not_read_and_what_was_not_flushed_is_not_known(tmp_path: Path):
    lengths = np.array([2, 3])
    states = torch.arange(2 * 3 * 1 * 4, dtype=torch.float32).reshape(2, 3, 1, 4)
    store = TeacherCache(tmp_path / "kept", "a", lengths, 1, 4)
    rows = np.array([0, 1])
    assert not store.knows(rows)
    store.keep(rows, states)
    assert store.knows(rows)
    found = store.read(rows, 4)
    assert torch.equal(found[1, :3], states[1])
    assert torch.equal(found[0, :2], states[0, :2])
    assert not found[0, 2:].any()
    assert not found[1, 3].any()
    assert not TeacherCache(tmp_path / "kept", "a", lengths, 1, 4).knows(rows)  # as after a kill
    store.flush()
    assert TeacherCache(tmp_path / "kept", "a", lengths, 1, 4).knows(rows)
    assert not TeacherCache(tmp_path / "kept", "b", lengths, 1, 4).knows(rows)
