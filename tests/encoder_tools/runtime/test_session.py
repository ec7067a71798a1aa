"""What stands around a session: the pair of distributions that is one module, and the cores that it may use."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from encoder_tools.errors import InputError
from encoder_tools.machine.processor import usable_cores
from encoder_tools.runtime import OnnxEncoder


def test_both_distributions_of_onnx_runtime_together_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        OnnxEncoder("default")
    info = tmp_path / "onnxruntime_gpu-1.31.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(RuntimeWarning, match=r"onnxruntime-gpu 1\.31\.1 are both installed.*pip uninstall -y"):
        OnnxEncoder("default")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a system with CPU affinity")
def test_cores_that_the_process_may_not_use_are_not_counted():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_a_model_on_one_core_gives_the_same_vectors(monkeypatch: pytest.MonkeyPatch):
    wide = OnnxEncoder("default", threads=2)
    narrow = wide.narrowed()
    texts = ["Where is my card?", "", "word " * 300]
    np.testing.assert_allclose(narrow.encode(texts), wide.encode(texts), atol=1e-6)
    assert narrow.fingerprint == wide.fingerprint
    with pytest.raises(InputError, match="1 threads"):
        OnnxEncoder("default", threads=1).narrowed()
    monkeypatch.setattr("encoder_tools.runtime.session._MOST_TWICE", 1_000_000)
    with pytest.raises(InputError, match="at most 1 MB"):
        wide.narrowed()
