"""Plans: they follow what was measured, grow with what is asked, and say what they do not know."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder_tools.errors import FileCorruptError, InputError
from index.sizing import MachineKind, Workload, plan_capacity
from index.sizing.estimates import QUANTITIES, fitted
from index.sizing.measurements import Measurement, read_measurements
from service.cli import cli

KNOWN = read_measurements()
ROWS = [row for row in KNOWN.rows if not row.held_out]
PAIRS = sorted({(row.engine, row.storage) for row in ROWS})
BYTES = ("disk_bytes", "resident_bytes")


def test_every_engine_and_storage_was_measured_at_three_sizes():
    assert {engine for engine, _ in PAIRS} == {"folder", "postgresql"}
    for pair in PAIRS:
        own = [row for row in ROWS if (row.engine, row.storage) == pair]
        assert len({row.documents for row in own}) >= 3
        assert len({row.dim for row in own}) >= 2
        assert len({row.words for row in own}) >= 2
        assert all(row.date for row in own)
    assert any(row.held_out for row in KNOWN.rows)
    assert len(KNOWN.encoding) >= 3


@pytest.mark.parametrize(
    "row", [row for row in KNOWN.rows if row.held_out], ids=lambda row: f"{row.engine} {row.storage}"
)
def test_sizes_that_were_not_fitted_are_met(row: Measurement):
    estimate = fitted(ROWS, row.engine, row.storage)
    for name in BYTES:
        says = estimate.of(name, row.documents, row.dim, row.text_bytes)
        assert says == pytest.approx(getattr(row, name), rel=0.2), name


@pytest.mark.parametrize("pair", PAIRS, ids=" ".join)
@given(
    documents=st.floats(1e3, 1e10), more=st.floats(1, 100), dim=st.integers(8, 4096), text=st.floats(1, 1e5),
)  # fmt: skip
@settings(deadline=None, max_examples=50)
def test_more_never_takes_less(pair: tuple[str, str], documents: float, more: float, dim: int, text: float):
    estimate = fitted(ROWS, *pair)
    for name in estimate.weights:
        less = estimate.of(name, documents, dim, text)
        assert less >= 0
        for larger in (
            (documents * more, dim, text),
            (documents, round(dim * more), text),
            (documents, dim, text * more),
        ):
            assert estimate.of(name, *larger) >= less * (1 - 1e-9), name


def test_a_fit_finds_the_rule_that_the_rows_follow():
    def row(documents: int, dim: int, text: int) -> Measurement:
        size = 1e6 + documents * (100 + 4 * dim + 2 * text)
        return Measurement("folder", "x", documents, dim, 1, text, 1, 1, None, round(size), round(size), 1, 1, 0.9, "d")

    sizes = [(10**4, 64, 50), (10**5, 64, 50), (10**4, 256, 50), (10**5, 256, 500), (5 * 10**4, 128, 500)]
    estimate = fitted([row(*size) for size in sizes], "folder", "x")
    assert estimate.of("disk_bytes", 1e9, 512, 80) == pytest.approx(1e6 + 1e9 * (100 + 2048 + 160), rel=1e-3)
    assert "peak_bytes" not in estimate.weights  # it was not measured
    with pytest.raises(InputError, match="was not measured"):
        estimate.of("peak_bytes", 1e6, 1, 1)


def test_machines_follow_searches_and_memory():
    few, many = (plan_capacity(Workload(1e5, qps=qps)) for qps in (1, 1e5))
    assert all(option.machines == 1 for option in few)
    assert all(option.machines > 10 for option in many)
    small = plan_capacity(Workload(1e8), MachineKind(memory=2**33))
    for option in small:
        assert option.parts > 1
        assert any("does not fit" in note or "servers" in note for note in option.notes)
    priced = plan_capacity(Workload(1e8), MachineKind(price=2.0))
    assert all(option.hourly == 2.0 * option.machines for option in priced)
    assert all(option.hourly is None for option in small)


@given(documents=st.floats(1e3, 1e10), dim=st.integers(8, 4096), text=st.floats(1, 1e5))
@settings(deadline=None, max_examples=50)
def test_building_takes_at_least_what_the_collection_does(documents: float, dim: int, text: float):
    for option in plan_capacity(Workload(documents, dim=dim, text_bytes=text)):
        assert option.peak_bytes is None or option.peak_bytes >= option.memory_bytes


def test_what_is_not_known_is_said():
    for option in plan_capacity(Workload(1e9, recall=0.99)):
        assert any("extrapolated" in note for note in option.notes)
        assert any("recall" in note for note in option.notes)
    for option in plan_capacity(Workload(5e4)):
        assert (option.notes == ()) == (option.storage != "binary")  # which may become int8


def test_faster_models_take_fewer_hours():
    slow, fast = (plan_capacity(Workload(1e6), MachineKind(texts_per_s=speed))[0] for speed in (100, 1000))
    assert slow.embed_core_hours == pytest.approx(10 * fast.embed_core_hours)
    short, long = (plan_capacity(Workload(1e6, text_bytes=size))[0] for size in (50, 1000))
    assert long.embed_core_hours > 2 * short.embed_core_hours


@pytest.mark.parametrize("wrong", [{"documents": 0}, {"dim": 0}, {"recall": 1.5}, {"qps": -1}, {"text_bytes": 0}])
def test_what_cannot_be_is_rejected(wrong: dict[str, Any]):
    with pytest.raises(InputError, match=next(iter(wrong))):
        replace(Workload(10), **wrong)


def test_damaged_measurements_are_told(tmp_path: Path):
    (tmp_path / "m.json").write_text('{"machine": {}, "rows": [{"engine": 1}]}')
    with pytest.raises(FileCorruptError, match=r"m\.json"):
        read_measurements(tmp_path / "m.json")


def test_the_command():
    done = CliRunner().invoke(cli, ["plan", "--documents", "1e9", "--dim", "256", "--qps", "500", "--growth"])
    assert done.exit_code == 0, done.output
    assert "1,000,000,000 documents" in done.output
    assert "10,000,000,000 documents" in done.output
    assert all(f"{engine:<11}{storage}" in done.output for engine, storage in PAIRS)
    assert "extrapolated" in done.output
    assert "Not known" in done.output
    told = json.loads(CliRunner().invoke(cli, ["plan", "--documents", "1e6", "--json"]).output)
    assert len(told["options"]) == len(PAIRS)
    assert set(QUANTITIES) >= {"disk_bytes"}
    assert CliRunner().invoke(cli, ["plan", "--documents", "many"]).exit_code == 2
    assert isinstance(CliRunner().invoke(cli, ["plan", "--documents", "-1"]).exception, InputError)
