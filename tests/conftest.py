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
    "encoder_tools/onnx_export",
    "encoder_tools/training",
    "encoder_tools/trimming",
    "encoder_tools/distillation",
    "encoder_tools/bulk/test_ray.py",
    "encoder_tools/bulk/test_embed_files.py",
    "encoder_tools/runtime/test_runtime.py",
    "encoder_tools/extraction/test_quirks.py",
    "index/storage/test_kills.py",
    "engines/test_kills.py",
    "engines/test_copying.py",
    "engines/test_milvus.py",
    "engines/test_replicas.py",
    "service/serving/test_workers.py",
    "service/http/test_openapi.py",
    "service/cli",
    "service/serving/test_operations.py",
    "service/workflows",
    "service/page",
    "index/collection/test_state_machine.py",
    "index/ann/test_ann_index.py",
    "index/ann/test_recall.py",
    "index/ann/test_bits.py",
    "index/text/test_words.py",
    "index/query/test_pages.py",
    "encoder_tools/evaluation/test_evaluate.py",
    "encoder_tools/model/test_default_model.py",
    "service/routes/test_clients.py",
    "service/routes/test_cross_encoders.py",
    "test_docs.py",
    "test_examples.py",
)
"""Files and folders that train, trace, kill or start processes, the slowest first; `make test-fast` leaves them out."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and run it first: workers that take files by turns then end at about the same time."""
    here = Path(__file__).parent
    rank = {}
    for item in items:
        name = item.path.relative_to(here).as_posix()
        rank[item] = next((n for n, slow in enumerate(SLOW) if name == slow or name.startswith(f"{slow}/")), len(SLOW))
        if rank[item] < len(SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=rank.__getitem__)  # stable: the tests of a file stay in their order
