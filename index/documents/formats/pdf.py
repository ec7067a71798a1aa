"""PDF, page by page, by pypdf: pure Python, kept, and without the licenses of MuPDF."""

from __future__ import annotations

from pathlib import Path

from index.documents.formats.extracted import Extracted, UnreadableError, described, pages_of, unhyphenated


def read_pdf(path: Path) -> Extracted:
    """The text of kind "pages".

    :raises UnreadableError: if it is encrypted, damaged, or has no text, as scans have not.
    """
    from pypdf import PdfReader

    reader = PdfReader(path)
    if reader.is_encrypted and not reader.decrypt(""):
        raise UnreadableError("it is encrypted, expected a PDF that opens without a password")
    pages, problems = [], []
    for number, page in enumerate(reader.pages, start=1):
        try:
            pages.append(unhyphenated(page.extract_text()))
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # pypdf raises what it meets; other pages may be whole
            pages.append("")
            problems.append(f"page {number} cannot be read ({type(error).__name__}: {error})")
    if not any(page.strip() for page in pages):
        raise UnreadableError(problems[0] if problems else "it has no text, as of a scan: run OCR on it first")
    about = reader.metadata
    metadata = described([("title", about and about.title), ("author", about and about.author)])
    return Extracted(pages_of(pages), {**metadata, "pages": len(pages)}, problems)
