"""The process that reads documents: a path for each line that comes in, a JSON object for each that goes out.

Run as ``python -m index.documents.formats.worker BYTES``: how much memory it may take beyond what it has when all is
imported.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from index.documents.formats.extracted import UnreadableError
from index.documents.formats.reading import FORMATS, read_document


def main() -> None:
    """Answer until the input ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    _import_all()
    _limit_memory(int(sys.argv[1]))
    out.write("ready\n")
    out.flush()
    for line in sys.stdin:
        out.write(json.dumps(_answer(Path(json.loads(line)))) + "\n")
        out.flush()


def _answer(path: Path) -> dict[str, Any]:
    try:
        extracted = read_document(path)
    except UnreadableError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": "reading it takes more memory than it may", "restart": True}
    return {"text": extracted.text, "metadata": extracted.metadata, "problems": extracted.problems}


def _import_all() -> None:
    """Before memory is limited: what is imported counts for nothing."""
    for one in FORMATS.values():
        if one.module is not None:
            try:
                __import__(one.module)
            except ImportError:  # told where a file needs it
                continue


def _limit_memory(room: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit; the time is limited there too
        return
    statm = Path("/proc/self/statm")
    used = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.is_file() else 0
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))


if __name__ == "__main__":
    main()
