"""One list of index types: what callers may ask for is what there is."""

from __future__ import annotations

from index.ann.index_types import INDEX_TYPES, kinds


def test_what_may_be_asked_for_is_what_there_is():
    assert set(INDEX_TYPES) == {"auto", "flat", *kinds()}
    assert {name: kind.name for name, kind in kinds().items()} == {name: name for name in kinds()}
