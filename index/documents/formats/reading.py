"""Which file is read how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from encoder_tools.extras import require_extra
from index.documents.formats.epub import read_epub
from index.documents.formats.extracted import Extracted, UnreadableError
from index.documents.formats.mail import read_mailbox, read_message
from index.documents.formats.pdf import read_pdf
from index.documents.formats.sheets import read_sheets
from index.documents.formats.slides import read_slides
from index.documents.formats.word import read_word
from index.documents.markup import TextKind


class Format(NamedTuple):
    """A kind of document.

    :ivar kind: of the text that ``read`` gives.
    :ivar module: which it needs, beside what always is there.
    """

    read: Callable[[Path], Extracted]
    kind: TextKind
    module: str | None = None


FORMATS = {
    ".pdf": Format(read_pdf, "pages", "pypdf"),
    ".docx": Format(read_word, "markdown", "docx"),
    ".pptx": Format(read_slides, "pages", "pptx"),
    ".xlsx": Format(read_sheets, "markdown", "openpyxl"),
    ".epub": Format(read_epub, "markdown"),
    ".eml": Format(read_message, "text"),
    ".mbox": Format(read_mailbox, "pages"),
}
"""By the ending of the name, in small letters."""


def require_format(suffix: str) -> None:
    """Check that what reads a format is installed.

    :raises MissingExtraError: if it is not.
    """
    module = FORMATS[suffix].module
    if module is not None:
        require_extra("documents", module)


def read_document(path: Path) -> Extracted:
    """The text of a document.

    :raises UnreadableError: with the reason, whatever the library that reads it says.
    """
    try:
        extracted = FORMATS[path.suffix.lower()].read(path)
    except (MemoryError, UnreadableError):
        raise
    except Exception as error:  # the libraries raise what they meet in a file that a stranger wrote
        raise UnreadableError(f"it is damaged, or none of its kind ({type(error).__name__}: {error})") from error
    if not extracted.text.strip():
        raise UnreadableError("it has no text")
    return extracted
