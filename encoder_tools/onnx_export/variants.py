"""The graphs of an export, each compared with torch before it is kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from encoder_tools.aliases import Log
from encoder_tools.errors import ParityError
from encoder_tools.io.files import sha256_of
from encoder_tools.model.tokenizer import TextTokenizer, padded_batches
from encoder_tools.onnx_export.battery import Case, real_sentences
from encoder_tools.onnx_export.graph.graph_file import GRAPH_NAME, save_graph, variant_name
from encoder_tools.onnx_export.half.conversion import HALF_TYPES, LEVELS, HalfType, Level
from encoder_tools.onnx_export.half.ranges import Feed, most_different
from encoder_tools.onnx_export.half.variant import Scaling, emulation_of, plan_scaling, scaled_graph, write_half
from encoder_tools.onnx_export.int8.int8_plan import Candidate, Int8Plan, plan_int8
from encoder_tools.onnx_export.parity import Parity, compare, graph_vectors, padding_effect
from encoder_tools.protocols import FloatMatrix
from encoder_tools.runtime.manifest import (
    INT8_MEAN,
    INT8_WORST,
    PADDING_TOLERANCE,
    GraphEntry,
    HalfPrecision,
    Int8,
    external_data,
)
from encoder_tools.runtime.session import open_session
from encoder_tools.vectors import unit_rows

_SAME = 1e-6  # of components of unit vectors, before and after exact scaling
_BATCH = 2048  # padded tokens
_MARGIN = 2.0  # texts that were not measured may be so much farther away than the worst of _MANY that were
_MANY = 1200
_FEWEST, _MOST, _PRODUCTS = 100, 1200, 5e11  # texts, texts, and weights times texts that a CPU does in minutes
_ONE_IN = 8  # batches on which a level is tried first
_CALIBRATION = 512  # padded tokens of a batch whose tensors are all looked at
_ONE_BY_ONE = 96  # sentences that are encoded once for each tensor
_PROBE, _REPEATS = 4, 3  # batches whose speed is measured, and how often
_SAMPLE = 8  # sentences on which the layer that differs most is looked for


@dataclass(frozen=True)
class Variants:
    """Makes and measures the graphs in one folder.

    :ivar folder: where they are written.
    :ivar tokenizer: of the model.
    :ivar pad_id: id of padding.
    :ivar cases: texts to compare on.
    :ivar expected: torch's unit vectors of each case.
    :ivar log: called with one line at each step.
    """

    folder: Path
    tokenizer: TextTokenizer
    pad_id: int
    cases: Sequence[Case]
    expected: Sequence[FloatMatrix]
    log: Log

    def exact(self, files: list[Path], stored_weights: str, tolerance: float) -> GraphEntry:
        """The main graph's entry.

        :raises ParityError: if it differs from torch by more than ``tolerance``.
        """
        parity, padding = self._measure(files[0])
        self.log(f"worst difference to torch {parity.max_abs_difference:.2e} ({parity.worst_case})")
        if parity.max_abs_difference > tolerance:
            raise ParityError(
                f"The graph differs from torch by {parity.max_abs_difference:.2e} ({parity.worst_case}), more than the "
                f"tolerance of {tolerance:g}. Nothing was written{_about_stored(stored_weights)}."
            )
        if padding[0] > max(tolerance, PADDING_TOLERANCE):
            self.log(
                f"vectors change by {padding[0]:.1e} with the padding of their batch: texts of one length are encoded "
                "together, without padding"
            )
        return _entry(files, stored_weights, parity, padding)

    def quantized(self) -> GraphEntry:
        """The variant that quantizes activations when it runs; the fastest candidate that is near enough is kept.

        Where none is, the nearest one is kept, and its figures say so.
        """
        exact, out = self.folder / GRAPH_NAME, self.folder / variant_name("qint8")
        self.log("measuring the tensors that products take, for qint8")
        feeds = list(self._feeds(more=True))
        few = feeds[:: max(1, len(feeds) // _PROBE)]
        calibration = self._feeds(self._affordable(), tokens=_CALIBRATION)
        plan = plan_int8(exact, list(calibration), list(self._feeds(_ONE_BY_ONE)))
        try:
            chosen, cosines, files = self._nearest(plan, out, feeds)
        finally:
            plan.close()
        parity, padding = self._measure(files[0])
        mean, lowest = min(parity.mean_cosine, cosines[0]), min(parity.min_cosine, cosines[1])
        parity = parity._replace(mean_cosine=mean, min_cosine=lowest)
        speed = self._seconds(exact, few) / self._seconds(out, few)
        self.log(f"cosine of a text alone to the same in a batch: lowest {padding[1]:.5f}")
        self.log(
            f"qint8: {chosen.in_words}; cosine mean {mean:.5f}, lowest {lowest:.5f}; {speed:.1f} times as fast as fp32 "
            "on this processor"
        )
        if mean < INT8_MEAN or lowest < INT8_WORST:
            self.log(f"qint8 is farther than {INT8_MEAN:g} and {INT8_WORST:g}: variant 'auto' does not choose it")
        return _entry(files, "int8", parity, padding, int8=Int8(chosen.in_words, plan.treated(chosen)))

    def _nearest(
        self, plan: Int8Plan, out: Path, feeds: Sequence[Feed]
    ) -> tuple[Candidate, tuple[float, float], list[Path]]:
        """The first candidate within the bars, else the nearest; its mean and lowest cosine, and its files."""
        few = feeds[::_ONE_IN]
        expected, of_few = self._expected(feeds)
        bars = [1 - (1 - bar) / margin for bar, margin in ((INT8_MEAN, 1.0), (INT8_WORST, _MARGIN))]
        best: tuple[float, Candidate] | None = None
        for candidate in plan.candidates():
            files = plan.write(candidate, out)
            cosines = self._cosines(out, few, of_few)
            if best is None or cosines[1] > best[0]:
                best = (cosines[1], candidate)
            if cosines[0] < bars[0] or cosines[1] < bars[1]:
                continue
            cosines = self._cosines(out, feeds, expected)
            self.log(f"{candidate.in_words}: mean cosine {cosines[0]:.5f}, lowest {cosines[1]:.5f}")
            if cosines[0] >= bars[0] and cosines[1] >= bars[1]:
                return candidate, cosines, files
        assert best is not None  # noqa: S101 - there is a first candidate
        files = plan.write(best[1], out)
        return best[1], self._cosines(out, feeds, expected), files

    def _cosines(self, graph: Path, feeds: Sequence[Feed], expected: FloatMatrix) -> tuple[float, float]:
        """Mean and lowest cosine to expected vectors."""
        cosines = np.nan_to_num((self._run(graph, feeds) * expected).sum(axis=1), nan=-1.0)
        return float(cosines.mean()), float(cosines.min())

    def _seconds(self, graph: Path, feeds: Sequence[Feed]) -> float:
        session: Any = open_session(graph, "cpu", None)
        times = []
        for _ in range(_REPEATS):
            start = time.perf_counter()
            for feed in feeds:
                session.run(["sentence_embedding"], dict(feed))
            times.append(time.perf_counter() - start)
        return min(times)

    def half(self, name: str, min_cosine: float) -> GraphEntry:
        """The variant in half precision: scaled exactly, then converted; the first level that is near enough is kept.

        :param name: "fp16" or "bf16".
        :raises ExportError: if numbers are infinite in float32 already.
        :raises ParityError: if no level gives a worst cosine of ``min_cosine``, naming the layer that differs most.
        """
        half, out = HALF_TYPES[name], self.folder / variant_name(name)
        self.log(f"measuring the ranges of all tensors for {name}")
        scaling = plan_scaling(self.folder / GRAPH_NAME, half, list(self._feeds(tokens=_CALIBRATION)))
        self.log(
            f"largest number {scaling.peak:.3g}; {len(scaling.exponents)} tensors are scaled by powers of two, the "
            f"largest 2^-{scaling.largest_exponent}"
        )
        self._check_scaled(scaling)
        feeds = list(self._feeds(more=True))
        few = feeds[::_ONE_IN]
        expected, of_few = self._expected(feeds)
        # the worst of a heavy tail grows with the number of texts, so fewer of them ask for more room
        near = 1 - (1 - min_cosine) / (_MARGIN * max(1.0, _MANY / len(expected)))
        lowest: dict[Level, float] = {}
        for level in LEVELS:
            files, islands = write_half(self.folder / GRAPH_NAME, out, half, scaling, level)
            kept = _in_words(level, islands)
            lowest[level] = self._lowest_cosine(out, half, few, of_few, kept)
            if lowest[level] < near and level != LEVELS[-1]:
                continue  # what is too far on few texts is not measured on all
            lowest[level] = self._lowest_cosine(out, half, feeds, expected, kept)
            if lowest[level] >= near:
                break
        best = max(lowest, key=lowest.__getitem__)
        if best != level:  # what is written is that of the level that was tried last
            files, islands = write_half(self.folder / GRAPH_NAME, out, half, scaling, best)
            lowest[best] = self._lowest_cosine(out, half, feeds, expected, _in_words(best, islands))
        if lowest[best] < min_cosine:
            raise ParityError(
                f"The lowest cosine of the {name} graph to fp32 is {lowest[best]:.6f}, less than {min_cosine:g}, in "
                f"float32: {best.in_float32}. {self._most_different(files[0], half)} Nothing was written; use fp32, or "
                "accept it with --min-cosine."
            )
        parity, padding = self._measure_emulated(files[0], half)
        parity = parity._replace(min_cosine=min(parity.min_cosine, lowest[best]))
        report = HalfPrecision(scaling.peak, scaling.largest_exponent, best.in_float32, tuple(islands))
        return _entry(files, name, parity, padding, report)

    def _lowest_cosine(
        self, graph: Path, half: HalfType, feeds: Sequence[Feed], expected: FloatMatrix, in_float32: str
    ) -> float:
        """The lowest cosine to the float32 graph of one in half precision."""
        with emulation_of(graph, half) as emulation:
            cosines = (self._run(emulation, feeds) * expected).sum(axis=1)
        lowest = float(np.nan_to_num(cosines, nan=-1.0).min())
        self.log(
            f"cosine of the {half.name} graph to fp32 over {len(cosines)} texts: mean {cosines.mean():.6f}, lowest "
            f"{lowest:.6f}; in float32: {in_float32}"
        )
        return lowest

    def _run(self, graph: Path, feeds: Sequence[Feed]) -> FloatMatrix:
        """Unit vectors of batches by a graph."""
        return np.concatenate(self._by_batch(graph, feeds))

    def _by_batch(self, graph: Path, feeds: Sequence[Feed]) -> list[FloatMatrix]:
        session: Any = open_session(graph, "cpu", None)
        return [unit_rows(session.run(["sentence_embedding"], dict(feed))[0]) for feed in feeds]

    def _expected(self, feeds: Sequence[Feed]) -> tuple[FloatMatrix, FloatMatrix]:
        """Unit vectors by the exact graph: of all batches, and of those on which candidates are tried first."""
        batches = self._by_batch(self.folder / GRAPH_NAME, feeds)
        return np.concatenate(batches), np.concatenate(batches[::_ONE_IN])

    def _check_scaled(self, scaling: Scaling) -> None:
        """:raises ParityError: if the scaled graph, in float32, does not give the same vectors as the one before."""
        if not scaling.exponents:
            return
        path = self.folder / "scaled.onnx"
        written = save_graph(scaled_graph(self.folder / GRAPH_NAME, scaling), path, share=True)
        before, after = (self._vectors(file) for file in (self.folder / GRAPH_NAME, path))
        worst = max(float(np.abs(left - right).max()) for left, right in zip(before, after, strict=True))
        for file in written:
            file.unlink()
        self.log(f"scaled in float32: worst difference {worst:.1e}")
        if not worst <= _SAME:
            raise ParityError(
                f"Scaling by powers of two changed vectors by {worst:.2e}, expected at most {_SAME:g}. Nothing was "
                "written. Please report the architecture."
            )

    def _affordable(self) -> int:
        """Texts that are compared: a model of a billion weights takes a second for one."""
        weights = sum(file.stat().st_size for file in self.folder.glob(f"{GRAPH_NAME}*")) / 4
        return max(_FEWEST, min(_MOST, int(_PRODUCTS / max(1.0, weights))))

    def _measure_emulated(self, graph: Path, half: HalfType) -> tuple[Parity, tuple[float, float]]:
        with emulation_of(graph, half) as emulation:
            return self._measure(emulation)

    def _most_different(self, graph: Path, half: HalfType) -> str:
        with emulation_of(graph, half) as emulation:
            feed = next(iter(self._feeds(_SAMPLE)))
            layer, error = most_different(self.folder / GRAPH_NAME, emulation, feed)
        return f"Numbers begin to differ most in {layer!r} (relative error {error:.2g})."

    def _feeds(self, most: int | None = None, *, more: bool = False, tokens: int = _BATCH) -> Any:
        """Batches of real sentences, and of the longest text; with ``more``, of sentences in other forms too."""
        sentences = real_sentences()
        texts = [*sentences[:most]]
        if more:
            texts += [text.upper() for text in sentences]
            texts += [f"{left} {right}" for left, right in zip(sentences, sentences[::-1], strict=True)]
            texts = texts[:: -(-len(texts) // self._affordable())]
        if most is None:
            texts += [text for case in self.cases if case.kind == "maximum length" for text in case.texts]
        for batch in padded_batches(self.tokenizer(texts), tokens, self.pad_id):
            feed: Feed = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
            yield feed

    def _vectors(self, graph: Path) -> list[FloatMatrix]:
        session: Any = open_session(graph, "cpu", None)
        return graph_vectors(session, self.tokenizer, self.pad_id, self.cases)

    def _measure(self, graph: Path) -> tuple[Parity, tuple[float, float]]:
        """Against torch, and of texts alone against a batch."""
        session: Any = open_session(graph, "cpu", None)
        parity = compare(self.expected, graph_vectors(session, self.tokenizer, self.pad_id, self.cases), self.cases)
        return parity, padding_effect(session, self.tokenizer, self.pad_id, self.cases)


def _in_words(level: Level, islands: Sequence[str]) -> str:
    return level.in_float32 + (f", {len(islands)} nodes with large numbers" if islands else "")


def _about_stored(stored_weights: str) -> str:
    if stored_weights == "int8":
        return "; weights stored as int8 fit only a model trained for it"
    if stored_weights != "fp32":
        return f"; weights stored as {stored_weights} are exact only for a model saved in it, or set --tolerance"
    return ""


def _entry(
    files: list[Path],
    stored_weights: str,
    parity: Parity,
    padding: tuple[float, float],
    half: HalfPrecision | None = None,
    int8: Int8 | None = None,
) -> GraphEntry:
    shared = [files[0].with_name(name) for name in external_data(files[0])]
    return GraphEntry(
        file=files[0].name,
        sha256={file.name: sha256_of(file) for file in dict.fromkeys([*files, *shared])},
        stored_weights=stored_weights,
        max_abs_difference=parity.max_abs_difference,
        min_cosine=parity.min_cosine,
        mean_cosine=parity.mean_cosine,
        padding_difference=padding[0],
        padding_min_cosine=padding[1],
        half=half,
        int8=int8,
    )
