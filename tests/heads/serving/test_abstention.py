import numpy as np
import pytest

from encoder_tools.errors import InputError
from heads.serving.abstention import answer_at_least, keep_errors_below


def drawn(rng: np.random.Generator, n: int):
    """Confidences, and whether they were right: more often the higher they are, but not as often as they say."""
    confidences = rng.random(n)
    return confidences, rng.random(n) < confidences**0.3


@pytest.mark.parametrize("confidence", [0.9, None])
def test_the_promise_about_errors_is_kept(confidence: float | None):
    rng = np.random.default_rng(0)
    level, risks, coverages = 0.12, [], []
    for _ in range(200):
        abstention = keep_errors_below(level, *drawn(rng, 1000), confidence=confidence)
        confidences, right = drawn(rng, 20_000)
        answered = confidences >= abstention.below
        risks.append((~right[answered]).mean())
        coverages.append(answered.mean())
    if confidence is None:
        assert np.mean(risks) <= level + 0.002
    else:
        assert np.mean(np.array(risks) > level) <= 1 - confidence + 0.05
    assert np.mean(coverages) > 0.45  # and it is not kept by silence: 0.62 would do exactly


def test_the_promise_about_answers_is_kept():
    rng = np.random.default_rng(0)
    for confidence, bar in ((0.9, 0.9), (None, 0.4)):
        shares = []
        for _ in range(300):
            below = answer_at_least(0.9, rng.random(200), confidence=confidence).below
            shares.append((rng.random(5000) >= below).mean())
        assert np.mean(np.array(shares) >= 0.9) >= bar - 0.05
        assert 0.88 <= np.mean(shares) <= 0.94


def test_one_error_at_the_top_does_not_silence_the_head():
    confidences = np.linspace(1, 0.5, 2000)
    right = np.ones(2000, bool)
    right[0] = False
    assert (confidences >= keep_errors_below(0.02, confidences, right).below).mean() > 0.9


def test_equal_confidences_are_answered_together():
    confidences = np.repeat([0.9, 0.6], 500)
    right = np.repeat([True, False], 500)
    assert keep_errors_below(0.05, confidences, right).below == pytest.approx(0.9)


def test_what_cannot_be_promised_is_said():
    with pytest.raises(InputError, match="183 sure answers"):
        keep_errors_below(0.02, np.ones(50), np.ones(50, bool))
    with pytest.raises(InputError, match="between 0 and 1"):
        keep_errors_below(2, np.ones(50), np.ones(50, bool))
    with pytest.raises(InputError, match="no threshold answers"):
        answer_at_least(0.99, np.random.default_rng(0).random(20))
