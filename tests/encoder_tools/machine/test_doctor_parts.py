"""Processor, cards and providers as they are found, on machines of other kinds too."""

from __future__ import annotations

from pathlib import Path

import pytest

from encoder_tools.machine import accelerators, processor


def test_the_cpu_provider_loads_and_others_say_why_not():
    states = {state.name: state for state in accelerators.providers()}
    assert states["CPUExecutionProvider"].loads
    assert all(state.loads or state.reason for state in states.values())


def test_a_provider_that_falls_back_is_not_taken_for_loaded(monkeypatch: pytest.MonkeyPatch):
    import onnxruntime

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    states = {state.name: state for state in accelerators.providers()}
    assert not states["CUDAExecutionProvider"].loads
    assert states["CUDAExecutionProvider"].reason


@pytest.mark.parametrize(
    ("script", "cards", "says"),
    [
        ("echo 'NVIDIA H100, 81559 MiB, 570.1'; echo 'NVIDIA L4, 23034 MiB, 570.1'", ["NVIDIA H100", "NVIDIA L4"], ""),
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", [], "Driver/library version"),
        ("exit 1", [], "failed"),
        ("true", [], ""),
    ],
)
def test_cards_are_read_from_nvidia_smi(
    script: str, cards: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found, reason = accelerators.gpus()
    assert [gpu.name for gpu in found] == cards
    assert says in reason


def test_no_driver_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert accelerators.gpus() == ([], "nvidia-smi is not installed: there is no NVIDIA driver here")


@pytest.mark.parametrize(
    ("fields", "features", "fast"),
    [
        ({"flags": "fpu avx2 avx512f avx512_vnni", "model name": "Xeon"}, ("avx2", "avx512", "avx512-vnni"), True),
        ({"flags": "fpu avx2"}, ("avx2",), False),
        ({"Features": "fp asimd asimddp"}, ("dotprod",), True),
        ({}, (), False),
    ],
)
def test_features_are_those_that_matter(
    fields: dict[str, str], features: tuple[str, ...], fast: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(processor, "_cpuinfo", lambda: fields)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    found = processor.this_processor()
    assert found.features == features
    assert found.multiplies_int8_fast is fast
    assert found.name
    assert 1 <= found.allowed <= found.cores
