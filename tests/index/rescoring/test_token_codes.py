import numpy as np
import pytest

from encoder_tools.vectors import unit_rows
from index.rescoring.token_codes import maxsim, pack, projected, unpack


def tokens(count: int, width: int, seed: int = 0):
    return unit_rows(np.random.default_rng(seed).standard_normal((count, width)))


@pytest.mark.parametrize("width", [1, 2, 7, 16, 127, 128])
def test_codes_of_narrow_models_keep_each_number_to_four_bits(width: int):
    vectors = tokens(20, width)
    assert pack(vectors).shape == (20, (width + 1) // 2)
    back = unpack(pack(vectors))
    assert (np.einsum("ij,ij->i", back[:, :width], vectors) > 0.98).all()


@pytest.mark.parametrize("width", [129, 384, 640, 1152])
def test_codes_of_wider_models_take_64_bytes_and_keep_inner_products(width: int):
    vectors = tokens(60, width)
    near = unit_rows(vectors + 0.5 * tokens(60, width, 1))  # cosines of about 0.9, else of about 0
    assert pack(vectors).shape == (60, 64)
    kept = projected(vectors) @ unpack(pack(near)).T
    assert np.abs(kept - vectors @ near.T).mean() < 0.1
    assert (kept.argmax(axis=1) == np.arange(60)).all()


def test_the_projection_is_the_same_everywhere():
    # codes that are on disk were made with it: another one makes all of them useless
    vectors = np.eye(384, dtype=np.float32)[:1]
    assert (np.sign(projected(vectors)[0, :16])).tolist() == GOLDEN


GOLDEN = [1, 1, -1, 1, 1, 1, 1, 1, -1, 1, -1, -1, 1, -1, -1, -1]


def test_maxsim_is_the_mean_over_the_query_of_the_nearest_token():
    query, texts = tokens(5, 32), [tokens(count, 32, count) for count in (1, 9, 30)]
    codes = [pack(text) for text in texts]
    expected = [(projected(query) @ unpack(one).T).max(axis=1).mean() for one in codes]
    assert np.allclose(maxsim(projected(query), codes), expected, atol=1e-6)


def test_a_text_without_tokens_is_as_far_as_can_be_and_moves_no_other():
    query, empty = projected(tokens(3, 32)), pack(np.zeros((0, 32), dtype=np.float32))
    some = pack(tokens(4, 32, 1))
    with_empty = maxsim(query, [empty, some, empty])
    assert with_empty[[0, 2]].tolist() == [-1, -1]
    assert np.isclose(with_empty[1], maxsim(query, [some])[0])
    assert maxsim(query[:0], [some]).tolist() == [-1]
    assert maxsim(query, []).tolist() == []
