"""``trim``: count the pieces that texts need, cut tokenizer and word table, prove that the vectors are the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from encoder_tools.aliases import Log
from encoder_tools.arguments import checked_integer
from encoder_tools.errors import FileMissingError, InputError, ProofError
from encoder_tools.extras import require_extra
from encoder_tools.io.decoding import lines_of
from encoder_tools.io.files import read_json, write_json
from encoder_tools.io.rows import kind_of, read_rows
from encoder_tools.io.staging import check_apart, staged_folder
from encoder_tools.model.model_folder import ModelFolder
from encoder_tools.model.shipped import model_path
from encoder_tools.onnx_export.battery import real_sentences
from encoder_tools.trimming.languages import scripts_of
from encoder_tools.trimming.pieces import Vocabulary, count_pieces, script_of
from encoder_tools.trimming.table_cut import cut_tables, word_tables
from encoder_tools.trimming.tokenizer_cut import cut_config, cut_tokenizer, cut_tokenizer_config, named_ids

REPORT_NAME = "trim.json"
_HELD_OUT_EVERY = 20  # of the texts: a fresh sample, whose pieces are not counted
_MOST_HELD_OUT = 5000
_BATCH = 1000
_STALE = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "vocab.txt", "vocab.json", "merges.txt")
_LEFT_OUT = ("onnx", ".*", "space.json", "generation_config.json", "added_tokens.json", REPORT_NAME, *_STALE)


@dataclass(frozen=True)
class TrimReport:
    """What ``trim`` did.

    :ivar pieces_before: of the vocabulary; ``pieces_after``.
    :ivar bytes_before: of the weight files; ``bytes_after``.
    :ivar texts: whose pieces were counted.
    :ivar fresh_texts: that were held out; where there were none, the sentences that exports are compared on.
    :ivar split_differently: share of the fresh texts that have other pieces than before.
    :ivar compared: texts whose vectors were compared; they are equal to the bit.
    """

    pieces_before: int
    pieces_after: int
    bytes_before: int
    bytes_after: int
    texts: int
    fresh_texts: int
    split_differently: float
    counted_split_differently: float
    compared: int

    def to_json(self) -> dict[str, Any]:
        """The content of ``trim.json``."""
        return {"format": "encoder-tools-trim", "format_version": 1, **asdict(self)}


def trim(
    model: str | Path,
    out: str | Path,
    *,
    corpus: Sequence[str | Path] = (),
    column: str = "text",
    keep: int | None = None,
    languages: Sequence[str] = (),
    overwrite: bool = False,
    log: Log = lambda _: None,
) -> TrimReport:
    r"""Write a model with a smaller vocabulary that splits the texts it was made for as before.

    At least one of ``corpus``, ``keep`` and ``languages`` is given. With a corpus, every piece that it uses is kept
    (or the ``keep`` most frequent), with all that these are made of; ``keep`` beyond that is filled up in the
    tokenizer's own order. Texts of the corpus then have the same pieces and vectors that are equal to the bit.

    :param model: Sentence Transformers folder with safetensors.
    :param out: folder to write; export it then.
    :param corpus: files of texts: .txt with one a line, or what tables are read from.
    :param column: of tables.
    :param keep: pieces to keep.
    :param languages: codes such as "de": pieces in their scripts (and Latin) are kept.
    :param overwrite: replace ``out`` if it exists.
    :param log: called with one line of text at each step.
    :raises InputError: if an option does not fit, or the tokenizer is of a kind that cannot be trimmed.
    :raises ProofError: if a text with the same pieces has another vector than before; nothing is written.
    :raises FileMissingError: if a file is missing.
    :raises FileCorruptError: if one is damaged.
    :raises SaveError: if the disk is full.
    :raises MissingExtraError: if the extra ``train`` is not installed.

    Example:
        >>> from encoder_tools import extract, trim
        >>> from tiny import make_checkpoint  # in tests/: a small random checkpoint of the true architecture
        >>> _ = make_checkpoint("t5", Path("checkpoint"))
        >>> _ = extract("checkpoint", "model")
        >>> _ = Path("texts.txt").write_text("Where is my card?\nThe weather is fine.\n")
        >>> report = trim("model", "small", corpus=["texts.txt"])
        >>> report.pieces_after < report.pieces_before
        True
    """
    require_extra("train", "torch", "sentence_transformers")
    if not corpus and keep is None and not languages:
        raise InputError("Nothing says what to keep. Give texts (--corpus), a number (--keep) or languages.")
    if keep is not None:
        keep = checked_integer(keep, "keep", 1)
    folder = ModelFolder.open(model_path(model))
    check_apart(folder.path, Path(out), "the model")
    for file in corpus:
        check_apart(Path(file), Path(out), "a corpus")
    if not any(file.suffix == ".safetensors" for file in folder.weight_files):
        raise FileMissingError(
            f"{folder.path} has no safetensors weights. For a packed model: encoder-tools unpack OUT --model {model}"
        )
    with staged_folder(Path(out), overwrite=overwrite) as staged:
        return _Trimming(folder, staged, log).run(corpus, column, keep, languages)


class _Trimming:
    def __init__(self, folder: ModelFolder, staged: Path, log: Log) -> None:
        self.folder, self.staged, self.log = folder, staged, log
        if not (folder.body / "tokenizer.json").is_file():
            raise FileMissingError(
                f"{folder.body} has no tokenizer.json. Save it with AutoTokenizer.from_pretrained(...).save_pretrained."
            )
        self.tokenizer_json = read_json(folder.body / "tokenizer.json")
        self.tokenizer = Tokenizer.from_file(str(folder.body / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.vocabulary = Vocabulary(self.tokenizer_json)

    def run(self, corpus: Sequence[str | Path], column: str, keep: int | None, languages: Sequence[str]) -> TrimReport:
        counted, fresh = self._read(corpus, column)
        kept = self._choose(
            count_pieces(self.tokenizer, counted), {letter for text in counted for letter in text}, keep, languages
        )
        new_id = self.vocabulary.new_ids(kept)
        self.log(f"keeping {len(kept):,} of {len(self.vocabulary.names):,} pieces")
        self._write(new_id)
        fresh = fresh or list(real_sentences())
        split_counted, split_fresh = self._split_differently(counted, new_id), self._split_differently(fresh, new_id)
        same = [*_same(counted, split_counted), *_same(fresh, split_fresh)]
        compared = self._prove(same)
        report = TrimReport(
            len(self.vocabulary.names),
            len(kept),
            sum(file.stat().st_size for file in self.folder.weight_files),
            sum(file.stat().st_size for file in ModelFolder.open(self.staged).weight_files),
            len(counted),
            len(fresh),
            sum(split_fresh) / max(1, len(fresh)),
            sum(split_counted) / max(1, len(counted)),
            compared,
        )
        write_json(self.staged / REPORT_NAME, report.to_json())
        return report

    def _read(self, corpus: Sequence[str | Path], column: str) -> tuple[list[str], list[str]]:
        counted: list[str] = []
        fresh: list[str] = []
        for number, text in enumerate(_texts(corpus, column)):
            held_out = number % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1 and len(fresh) < _MOST_HELD_OUT
            (fresh if held_out else counted).append(text)
        if corpus and not counted:
            raise InputError(f"{', '.join(map(str, corpus))}: no text is in it.")
        return counted, fresh

    def _choose(
        self, counts: NDArray[np.int64], characters: set[str], keep: int | None, languages: Sequence[str]
    ) -> set[int]:
        vocabulary = self.vocabulary
        scripts = scripts_of(languages) if languages else set()
        required = vocabulary.required(characters) | (named_ids(self.folder.config) & set(vocabulary.names))
        if scripts:
            required |= {number for piece, number in vocabulary.pieces.items() if _written_in(piece, scripts)}
        kept = vocabulary.closed(required)
        limit = len(vocabulary.names) if keep is None else keep
        if keep is not None and len(kept) > keep:
            raise InputError(
                f"keep is {keep}, but {len(kept)} pieces are needed by special tokens, single characters and what was "
                "asked for besides. Keep more."
            )
        common = [int(number) for number in np.argsort(-counts, kind="stable") if counts[number]]
        rest = vocabulary.ranked() if keep is not None else []
        for number in [*common, *rest]:
            more = vocabulary.closed([number]) - kept
            if len(kept) + len(more) <= limit:
                kept |= more
        return kept

    def _write(self, new_id: Mapping[int, int]) -> None:
        folder, body = self.folder, self.folder.body
        rows = _rows(folder)
        into = self.staged / body.relative_to(folder.path)
        files = [file for file in folder.weight_files if file.parent == body]
        shutil.copytree(folder.path, self.staged, dirs_exist_ok=True, ignore=_ignoring(files))
        tables = word_tables(files, rows)
        kept = list(new_id)
        for file in files:
            cut_tables(file, into / file.name, tables, kept)
        write_json(into / "config.json", cut_config(folder.config, new_id, len(kept), rows))
        write_json(into / "tokenizer.json", cut_tokenizer(self.tokenizer_json, self.vocabulary, new_id))
        if (body / "tokenizer_config.json").is_file():
            config = cut_tokenizer_config(read_json(body / "tokenizer_config.json"), new_id)
            write_json(into / "tokenizer_config.json", config)

    def _split_differently(self, texts: Sequence[str], new_id: Mapping[int, int]) -> list[bool]:
        """Whether each text has other pieces than before."""
        cut = Tokenizer.from_file(str(self.staged / self.folder.body.relative_to(self.folder.path) / "tokenizer.json"))
        cut.no_padding()
        cut.no_truncation()
        differs: list[bool] = []
        for start in range(0, len(texts), _BATCH):
            part = list(texts[start : start + _BATCH])
            before = self.tokenizer.encode_batch_fast(part)
            after = cut.encode_batch_fast(part)
            differs += [
                [new_id.get(number) for number in left.ids] != right.ids
                for left, right in zip(before, after, strict=True)
            ]
        return differs

    def _prove(self, texts: Sequence[str]) -> int:
        """Compare vectors by torch, to the bit.

        :raises ProofError: naming a text whose vector differs.
        """
        from encoder_tools.trimming.torch_vectors import sample, vectors_of

        chosen = sample(texts)
        self.log(f"comparing vectors of {len(chosen)} texts")
        before, after = vectors_of(self.folder.path, chosen), vectors_of(self.staged, chosen)
        wrong = (before != after).any(axis=1)
        if wrong.any():
            raise ProofError(
                f"{chosen[int(wrong.argmax())][:60]!r} has the same pieces and another vector. Nothing was written. "
                "Please report the model."
            )
        return len(chosen)


def _ignoring(files: Sequence[Path]) -> Callable[[str, list[str]], set[str]]:
    """What is not copied: ``files``, which are written anew, and what belongs to the old vocabulary."""
    others = shutil.ignore_patterns(*_LEFT_OUT)

    def ignored(parent: str, names: list[str]) -> set[str]:
        return {*others(parent, names), *(name for name in names if Path(parent, name) in files)}

    return ignored


def _rows(folder: ModelFolder) -> int:
    """Rows of the word table, from ``config.json`` or a part of it."""
    for config in (folder.config, *(value for value in _parts(folder.config))):
        if isinstance(config.get("vocab_size"), int):
            return int(config["vocab_size"])
    raise InputError(f"{folder.body / 'config.json'} names no vocab_size, so the word table cannot be told.")


def _parts(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for value in config.values():
        if isinstance(value, Mapping):
            yield value
            yield from _parts(value)


def _texts(corpus: Iterable[str | Path], column: str) -> Iterator[str]:
    for name in corpus:
        path = Path(name)
        if kind_of(path) is None and not path.is_dir():
            if not path.is_file():
                raise FileMissingError(f"{path} does not exist. Name files of texts.")
            yield from (line.strip() for line in lines_of(path) if line.strip())
            continue
        for row in read_rows(path):
            if column not in row:
                names = ", ".join(map(str, row))
                raise InputError(f"{path} has no column {column!r}; it has {names}. Name it with --column.")
            if isinstance(row[column], str) and row[column].strip():
                yield row[column]


def _written_in(piece: str, scripts: set[str]) -> bool:
    return all(script_of(letter) in scripts for letter in piece)


def _same(texts: Sequence[str], differs: Sequence[bool]) -> list[str]:
    return [text for text, other in zip(texts, differs, strict=True) if not other]
