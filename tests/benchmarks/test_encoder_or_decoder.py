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


STORIES = [tasks.Story(f"headline {n}", f"lead of {n}", "ABCD"[n % 4]) for n in range(20)]


@pytest.mark.parametrize("place", tasks.PLACES)
def test_the_deciding_word_stands_where_it_should_and_is_right(place: str):
    for pair in tasks.deciding_pairs(STORIES, 100, place, 5):
        number = pair.positive.removeprefix("headline ")
        word = "first" if f"one: lead of {number} two:" in pair.anchor else "second"
        assert f"lead of {(pair.wrong or '').removeprefix('headline ')}" in pair.anchor
        clause = f"the {word} one."
        assert pair.anchor.startswith(clause) if place == "start" else pair.anchor.endswith(clause)
    labeled = tasks.deciding_labels(STORIES, 100, place, 5)
    assert len(set(labeled.labels)) == 4


def test_without_the_deciding_word_the_label_cannot_be_known():
    both = STORIES[:2]
    texts = {tasks.compose(both, meant, "end") for meant in (0, 1)}
    assert len(texts) == 2
    assert len({text.rsplit("the ", 1)[0] for text in texts}) == 1
    with pytest.raises(InputError, match="place is 'middle'"):
        tasks.compose(both, 0, "middle")


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the project's data folder")
def test_held_out_stories_are_not_trained_on():
    train, test = ({story.lead for story in tasks.stories(DATA, part)} for part in ("train", "test"))
    assert len(test) > 1000
    assert len(test & train) <= 0.01 * len(test)
