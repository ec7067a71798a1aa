"""PowerPoint presentations (.pptx): a page for each slide, with its notes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from index.documents.formats.extracted import Extracted, described, pages_of, table_lines


def read_slides(path: Path) -> Extracted:
    """The text of kind "pages"."""
    from pptx import Presentation

    presentation = Presentation(str(path))
    about = presentation.core_properties
    slides = ["\n\n".join(_slide(slide)) for slide in presentation.slides]
    metadata = described([("title", about.title), ("author", about.author)])
    return Extracted(pages_of(slides), {**metadata, "pages": len(slides)})


def _slide(slide: Any) -> Iterator[str]:
    yield from _texts(slide.shapes)
    if slide.has_notes_slide:
        frame = slide.notes_slide.notes_text_frame
        if frame is not None and frame.text.strip():
            yield frame.text


def _texts(shapes: Iterable[Any]) -> Iterator[str]:
    for shape in shapes:
        if hasattr(shape, "shapes"):  # a group
            yield from _texts(shape.shapes)
        elif getattr(shape, "has_table", False):
            rows = ([cell.text for cell in row.cells] for row in shape.table.rows)
            yield "\n".join(table_lines(rows))
        elif getattr(shape, "has_text_frame", False) and shape.text_frame.text.strip():
            yield shape.text_frame.text.replace("\v", "\n")
