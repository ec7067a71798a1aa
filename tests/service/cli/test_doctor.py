"""``encoder-tools doctor`` on this machine, and with what can go wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from encoder_tools.machine.accelerators import Gpu, ProviderState
from service.cli import cli
from service.workflows import doctor


def test_it_measures_recommends_and_prints_json():
    result = CliRunner().invoke(cli, ["doctor", "--seconds", "0.2"])
    assert result.exit_code == 0, result.output
    for start in (
        "encoder-tools ",
        "processor ",
        "memory ",
        "gpu ",
        "provider ",
        "measured ",
        "recommended  --variant",
    ):
        assert any(line.startswith(start) for line in result.output.splitlines()), start
    result = CliRunner().invoke(cli, ["doctor", "--json", "--seconds", "0"])
    found = json.loads(result.output)
    assert found["format"] == "encoder-tools-doctor"
    assert found["processor"]["allowed"] >= 1
    assert {state["name"] for state in found["providers"]} >= {"CPUExecutionProvider", "CUDAExecutionProvider"}
    assert found["speeds"] == []
    assert found["recommended"] is None


def test_a_model_that_cannot_be_opened_is_a_problem_and_not_the_end(tmp_path: Path):
    result = CliRunner().invoke(cli, ["doctor", str(tmp_path / "nowhere"), "--seconds", "1"])
    assert result.exit_code == 0
    assert "problem " in result.output
    assert "nowhere" in result.output


def test_a_gpu_that_does_not_load_and_a_pair_of_runtimes_are_problems(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "gpus", lambda: ([Gpu("NVIDIA L4", "23034 MiB", "570")], ""))
    monkeypatch.setattr(doctor, "providers", lambda: [ProviderState("CUDAExecutionProvider", False, "no cuDNN")])
    monkeypatch.setattr(doctor, "distributions", lambda: {"onnxruntime": "1.32", "onnxruntime-gpu": "1.31"})
    found = doctor.diagnose(seconds=0)
    assert any("overwrite each other" in problem for problem in found.problems)
    assert any("NVIDIA L4" in problem and "no cuDNN" in problem for problem in found.problems)
