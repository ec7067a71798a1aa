"""Draws the tree and the layers of the packages into docs/architecture.md, from what the tests hold them to."""

from __future__ import annotations

import re

from test_architecture import LAYERS, ROOT, tree

PAGE = ROOT / "docs" / "architecture.md"


def layers() -> str:
    rows = [f"| `{name}` | {' → '.join(line.replace(' ', ', ') for line in lines)} |" for name, lines in LAYERS.items()]
    return "\n".join(rows)


def draw(page: str) -> str:
    page = re.sub(
        r"<!-- tree -->\n```text\n.*?```", lambda _: f"<!-- tree -->\n```text\n{tree()}\n```", page, flags=re.S
    )
    return re.sub(
        r"<!-- layers -->\n.*?<!-- /layers -->",
        lambda _: f"<!-- layers -->\n{layers()}\n<!-- /layers -->",
        page,
        flags=re.S,
    )


if __name__ == "__main__":
    PAGE.write_text(draw(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
