"""What holds for all tests: each worker computes on its share of the cores, and slow files are marked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before numpy and torch are imported. Tiny models gain nothing from more threads, and workers that each start as
    # many threads as there are cores wait for one another.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

SLOW = (
    "encoder_tools/distillation",
    "encoder_tools/evaluation/test_evaluate.py",
    "encoder_tools/extraction/test_quirks.py",
    "encoder_tools/model/test_default_model.py",
    "encoder_tools/onnx_export",
    "encoder_tools/runtime/test_runtime.py",
    "encoder_tools/training",
    "index/ann/test_recall.py",
    "index/collection/test_state_machine.py",
    "index/query/test_pages.py",
    "index/storage/test_kills.py",
    "service/cli",
    "service/http/test_openapi.py",
    "service/page",
    "service/routes/test_clients.py",
    "service/routes/test_cross_encoders.py",
    "service/serving/test_operations.py",
    "service/workflows",
    "test_docs.py",
    "test_examples.py",
)
"""Files and folders that train, trace, kill or start processes; `make test-fast` leaves them out."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow."""
    here = Path(__file__).parent
    for item in items:
        name = item.path.relative_to(here).as_posix()
        if any(name == slow or name.startswith(f"{slow}/") for slow in SLOW):
            item.add_marker(pytest.mark.slow)
