"""Another model for a collection in use: nothing is lost, and nobody is answered with another model's vectors."""

import signal
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoder_tools import OnnxEncoder
from encoder_tools.errors import FingerprintError, InputError, SaveError
from index import Chunking, Collection
from index.ann import builder
from index.collection import reembedding
from index.collection import writes as writing

ROOT = Path(__file__).parents[3]
TEXTS = [f"word{n} and word{n % 7}" for n in range(600)]


class Other:
    """Unit sums of one random vector per word, others than those of the fixture's encoder."""

    def __init__(self, dim: int = 16, fingerprint: str = "other") -> None:
        self.dim, self.fingerprint, self.calls = dim, fingerprint, 0

    def encode_document(self, texts: Any):
        self.calls += 1
        return self.encode(texts)

    def encode_query(self, texts: Any):
        return self.encode(texts)

    def encode(self, texts: Any):
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str):
        words = ["<other>", *text.split()]
        total = sum(np.random.default_rng(zlib.crc32(word.encode())).standard_normal(self.dim) for word in words)
        return (total / np.linalg.norm(total)).astype(np.float32)


@pytest.fixture
def filled(folder: Path, encoder: Any):
    with Collection.create(folder, encoder) as made:
        made.upsert(list(range(len(TEXTS))), TEXTS)
        yield made


def check_all_found(collection: Collection, texts: dict[Any, str], encoder: Any):
    assert collection.about.fingerprint == encoder.fingerprint
    assert collection.verify() == len(texts)
    for name, text in texts.items():
        hit = collection.search(text, 1)[0]
        assert (hit.id, hit.score) == (name, pytest.approx(1, abs=1e-5))


@pytest.mark.parametrize("dim", [16, 24])
def test_all_vectors_change_at_once_and_the_collection_goes_on(
    filled: Collection, folder: Path, encoder: Any, dim: int
):
    other, steps = Other(dim), []
    query = encoder.encode_query([TEXTS[3]])[0]
    filled.reembed(other, progress=lambda *step: steps.append(step))
    assert steps == [(0, 600), (256, 600), (512, 600), (600, 600)]
    texts = dict(enumerate(TEXTS))
    check_all_found(filled, texts, other)
    filled.upsert([5, "new"], ["word5 again", "brand new"])
    filled.delete([9])
    texts = {**texts, 5: "word5 again", "new": "brand new"}
    del texts[9]
    check_all_found(filled, texts, other)
    with Collection.open(folder, other) as again:
        check_all_found(again, texts, other)
        assert again.stats().reembedding is None
    with pytest.raises(FingerprintError):
        Collection.open(folder, encoder)
    if dim == 24:
        with pytest.raises(InputError, match="expected numbers"):
            filled.search(query)
    with pytest.raises(InputError, match="model other already"):
        filled.reembed(other)


def test_searches_and_writes_go_on_meanwhile_and_what_is_written_gets_both(
    filled: Collection, folder: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writing, "_AT_ONCE", 64)
    texts: dict[Any, str] = dict(enumerate(TEXTS))
    seen, steps = set(), list[int]()

    def meanwhile(done: int, count: int) -> None:
        if len(steps) == 9:
            return  # nobody writes any more
        steps.append(done)
        with Collection.open(folder, encoder) as elsewhere:
            for collection in (filled, elsewhere):
                name = f"n{done} {id(collection)}"
                texts[name] = f"{name} text"
                collection.upsert([name, done], [texts[name], f"changed {done}"])
                texts[done] = f"changed {done}"
                collection.delete([done + 1])
                texts.pop(done + 1, None)
                assert collection.search(texts[name], 1)[0].id == name
                assert collection.search(f"changed {done}", 1)[0].id == done
                seen.add(collection.about.fingerprint)
            state = elsewhere.stats().reembedding
            assert state is not None
            assert state[0] == "other"

    filled.reembed(Other(), progress=meanwhile)
    assert seen == {"roles"}
    assert len(texts) > 600
    check_all_found(filled, texts, Other())


def test_threads_that_search_through_the_switch_always_find_what_they_look_for(filled: Collection):
    stop, wrong, models = threading.Event(), [], set()

    def look(number: int) -> None:
        while not stop.is_set():
            hit = filled.search(TEXTS[number], 1)[0]
            models.add(filled.about.fingerprint)
            if (hit.id, round(hit.score, 4)) != (number, 1):
                wrong.append(hit)
            filled.upsert([f"t{number}"], [f"of thread{number} only"])

    threads = [threading.Thread(target=look, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    filled.reembed(Other())
    filled.search(TEXTS[0])
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert "roles" in models
    check_all_found(filled, dict(enumerate(TEXTS)) | {f"t{n}": f"of thread{n} only" for n in range(3)}, Other())


def test_who_does_not_know_the_new_model_is_told_and_what_needs_none_goes_on(
    filled: Collection, folder: Path, encoder: Any
):
    query = encoder.encode_query(["word3"])[0]
    with Collection.open(folder, encoder) as late, Collection.open(folder, None) as modelless:
        late.search("word3")
        filled.reembed(Other())
        for call in (
            lambda: late.search("word3"),
            lambda: late.search(query),
            lambda: late.upsert(["x"], ["words"]),
            lambda: late.upsert(["x"], ["words"], vectors=[query]),
            lambda: modelless.search(query),
            lambda: modelless.upsert(["x"], ["words"], vectors=[query]),
        ):
            with pytest.raises(FingerprintError, match=r"re-embedded with"):
                call()
        for collection in (late, modelless):
            assert collection.search("word3", 1, mode="lexical")[0].id == 3
            assert collection.get([3])[0].text == TEXTS[3]
            assert collection.search_like(3, 1)[0].id != 3
            assert collection.count() == 600
        assert late.delete([599]) == 1
    assert filled.count() == 599


def test_a_run_that_was_cut_goes_on_where_it_was(filled: Collection, folder: Path, encoder: Any):
    first = Other()

    class CutError(Exception):
        pass

    def cut(done: int, count: int) -> None:
        if done == 512:
            raise CutError

    with pytest.raises(CutError):
        filled.reembed(first, progress=cut)
    filled.delete([3, 590])
    with Collection.open(folder, encoder) as again:
        assert again.stats().reembedding == ("other", 511)
        again.verify()
        with pytest.raises(InputError, match="re-embedded with model other"):
            again.reembed(Other(fingerprint="third"))
        second = Other()
        again.reembed(second)
        assert (first.calls, second.calls) == (2, 1)
        check_all_found(again, {n: text for n, text in enumerate(TEXTS) if n not in (3, 590)}, second)


@pytest.mark.parametrize(
    ("wrong", "says"), [(lambda v: v[:-1], "gave 255 vectors for 256"), (lambda v: v * np.nan, "NaN")]
)
def test_an_encoder_that_fails_leaves_the_old_vectors(filled: Collection, encoder: Any, wrong: Any, says: str):
    class Broken(Other):
        def encode_document(self, texts: Any):
            return wrong(super().encode_document(texts))

    with pytest.raises(InputError, match=says):
        filled.reembed(Broken())
    check_all_found(filled, dict(enumerate(TEXTS)), encoder)


def test_another_model_may_be_begun_with_and_the_first_run_is_told(filled: Collection, folder: Path, encoder: Any):
    third = Other(fingerprint="third")

    def overtake(done: int, count: int) -> None:
        if done == 256:
            with Collection.open(folder, encoder) as elsewhere:
                elsewhere.reembed(third, restart=True)

    with pytest.raises(SaveError, match="was ended by another process"):
        filled.reembed(Other(), progress=overtake)
    with Collection.open(folder, third) as again:
        check_all_found(again, dict(enumerate(TEXTS)), third)


class Tokenized(Other):
    document_room = None
    tokenizer_file = OnnxEncoder("default").tokenizer_file


def test_pieces_are_stored_with_the_model_that_there_is_by_then(folder: Path):
    old, new, text = Tokenized(fingerprint="old"), Tokenized(), " ".join(f"One more sentence {n}." for n in range(40))
    with Collection.create(folder, old) as collection:
        collection.upsert(["a"], [text], chunking=Chunking(40, 0))
        with Collection.open(folder, old) as late:
            collection.reembed(new)
            with pytest.raises(FingerprintError):
                late.upsert(["b"], [text], chunking=Chunking(40, 0))
        with Collection.open(folder, new) as elsewhere:
            elsewhere.reembed(old)
        assert collection.upsert(["a", "b"], [text, text], chunking=Chunking(40, 0)) == 1  # it knows both
        assert collection.about.fingerprint == "old"
        for piece in collection.scan():
            assert collection.search(piece.text, 1)[0].score == pytest.approx(1, abs=1e-5)


KILLED = """
import sys
sys.path[:0] = [".", "tests/index/collection"]
from index import Collection
from test_reembed import Other
with Collection.open(sys.argv[1], None) as collection:
    collection.reembed(Other(), progress=lambda done, count: print(done, flush=True))
print("whole", flush=True)
"""


@pytest.mark.parametrize("at", [0, 64, 320, 576, 600])
def test_a_run_that_is_killed_loses_nothing(filled: Collection, folder: Path, encoder: Any, at: int):
    code = KILLED.replace(
        "collection.reembed",
        "import index.collection.writes; index.collection.writes._AT_ONCE = 64; collection.reembed",
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    for line in process.stdout or ():
        if line.strip() == str(at):
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    filled.close()
    try:
        opened = Collection.open(folder, encoder)
    except FingerprintError:  # it was faster
        opened = Collection.open(folder, Other())
    with opened:
        assert opened.verify() == 600
        if opened.about.fingerprint == "roles":
            opened.reembed(Other())
        check_all_found(opened, dict(enumerate(TEXTS)), Other())


def test_a_graph_of_the_old_vectors_is_not_searched(folder: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(builder, "GRAPH_FROM", 500)
    with Collection.create(folder, encoder) as collection:
        collection.upsert(list(range(len(TEXTS))), TEXTS)
        collection.compact()
        assert collection.stats().kind == "hnsw"
        collection.reembed(Other())
        check_all_found(collection, dict(enumerate(TEXTS)), Other())
        collection.compact()
        assert collection.stats().why == "it was built over 600 documents"
    with Collection.open(folder, Other()) as again:
        assert again.stats().why == "it was on disk"
        check_all_found(again, dict(enumerate(TEXTS)), Other())


def test_what_comes_in_great_numbers_at_the_very_end_is_still_filled_in(
    filled: Collection, folder: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
):
    texts: dict[Any, str] = dict(enumerate(TEXTS))
    switched = reembedding.Reembedding._switched
    late = iter([700, 20, 0])

    def crowded(self: Any, after: int) -> Any:
        new = {f"late {count} {n}": f"late{count} {n}" for count in [next(late, 0)] for n in range(count)}
        if new:
            with Collection.open(folder, encoder) as elsewhere:
                elsewhere.upsert(list(new), list(new.values()))
            texts.update(new)
        return switched(self, after)

    monkeypatch.setattr(reembedding.Reembedding, "_switched", crowded)
    filled.reembed(Other())
    assert len(texts) > 700 + 600
    assert filled.verify() == len(texts)
    for name in ("late 700 3", "late 700 699", 5):
        assert filled.search(texts[name], 1)[0].id == name


def test_vectors_of_stored_documents_are_those_of_the_new_model(filled: Collection):
    other = Other()
    filled.reembed(other)
    expected = other.encode_document(TEXTS)
    with filled.opened.reading() as reader:
        found = np.concatenate([block.vectors for block in reader.vectors()])
    np.testing.assert_allclose(found, expected, atol=1e-6)
