"""The bodies that are compared differ in their attention and in nothing else; the tasks say what they claim."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from benchmarks.encoder_or_decoder import tasks  # noqa: E402
from benchmarks.encoder_or_decoder.bodies import ARRANGEMENTS, Arrangement, Body, Size  # noqa: E402
from benchmarks.encoder_or_decoder.training import padded  # noqa: E402
from encoder_tools.errors import InputError  # noqa: E402

SIZE = Size(60, width=16, layers=2, heads=2, inner=24)
DATA = Path(__file__).parents[3] / "shared" / "data"


def vectors(arrangement: Arrangement, rows: list[list[int]]) -> torch.Tensor:
    with torch.inference_mode():
        return Body(arrangement, SIZE, 1).eval()(*padded(rows))


def weights(body: str) -> dict[str, torch.Tensor]:
    state = Body(Arrangement(body, "mean"), SIZE, 1).body.state_dict()
    return {
        name.replace("pre_self_attn", "input").replace("post_self_attn", "post_attention"): state[name]
        for name in state
    }


def test_both_bodies_begin_with_the_same_weights():
    one, other = weights("bidirectional"), weights("causal")
    assert set(one) - set(other) == {"embed_tokens.eoi_embedding"}
    assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS, ids=lambda each: each.name)
def test_padding_changes_nothing(arrangement: Arrangement):
    row = [1, 7, 9, 11, 2]
    alone = vectors(arrangement, [row])
    beside = vectors(arrangement, [row, [1, *range(5, 40), 2]])
    assert torch.allclose(alone[0], beside[0], atol=1e-5)


def test_only_a_causal_body_reads_the_start_without_the_end():
    """With a single token pooled, the first: its state may change with a later word, or not."""
    for body, changes in (("bidirectional", True), ("causal", False)):
        first = vectors(Arrangement(body, "first"), [[1, 7, 9, 11, 2], [1, 7, 9, 30, 2]])
        assert torch.allclose(first[0], first[1], atol=1e-6) is not changes


FILMS = tasks.Labeled([f"film {number} was fine" for number in range(40)], [number % 2 for number in range(40)])


@pytest.mark.parametrize("place", tasks.PLACES)
def test_the_deciding_word_stands_where_it_should_and_turns_the_label(place: str):
    both = tasks.decided(FILMS, place, 5)
    assert len(both.texts) == 80
    for text, label in zip(both.texts, both.labels, strict=True):
        number = int(text.split("film ")[1].split()[0])
        word = "seriously" if label == number % 2 else "ironically"
        assert text.startswith(f"{word} : ") if place == "start" else text.endswith(f" : {word}")
    for pair in tasks.judged_pairs(both, 100, 5):
        label = next(number for number, judgments in enumerate(tasks.JUDGMENTS) if pair.positive in judgments)
        assert pair.wrong in tasks.JUDGMENTS[1 - label]
        assert (pair.anchor, label) in zip(both.texts, both.labels, strict=True)


def test_without_the_deciding_word_the_label_cannot_be_known():
    both = tasks.decided(FILMS, "end", 5)
    labels: dict[str, set[int]] = {}
    for text, label in zip(both.texts, both.labels, strict=True):
        labels.setdefault(text.rpartition(" : ")[0], set()).add(label)
    assert set(map(len, labels.values())) == {2}
    with pytest.raises(InputError, match="place is 'middle'"):
        tasks.compose("a film", True, "middle")


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the project's data folder")
def test_held_out_films_are_not_trained_on():
    train, test = (set(part.texts) for part in tasks.labeled(DATA, "sst2"))
    assert len(test) > 1000
    assert len(test & train) <= 0.01 * len(test)
