"""What holds for all tests: each worker computes on its share of the cores."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before numpy and torch are imported. Tiny models gain nothing from more threads, and workers that each start as
    # many threads as there are cores wait for one another.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
