from typing import Any

import pytest

from index.storage.reader import Reader


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows' metadata each read was of."""
    reads: list[int] = []
    metadata = Reader.metadata

    def counted(self: Reader, rows: Any) -> Any:
        reads.append(len(rows))
        return metadata(self, rows)

    monkeypatch.setattr(Reader, "metadata", counted)
    return reads
