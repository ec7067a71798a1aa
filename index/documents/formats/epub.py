"""EPUB books: the chapters in the order of the spine, as Markdown."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree  # in the process that reads documents, whose time and memory are limited
from zipfile import BadZipFile, ZipFile

from index.documents.formats.extracted import Extracted, UnreadableError, cleaned, described
from index.documents.html import read_html
from index.documents.source_map import SourceText

_LARGEST = 2**26  # bytes of a file in the archive
_GAP = re.compile(r"\n{3,}")
_CONTAINER = "META-INF/container.xml"
_DC = "{http://purl.org/dc/elements/1.1/}"


def read_epub(path: Path) -> Extracted:
    """The text of kind "markdown".

    :raises UnreadableError: if it is no EPUB, or its chapters are encrypted.
    """
    try:
        with ZipFile(path) as archive:
            return _book(archive)
    except (BadZipFile, KeyError, ElementTree.ParseError) as error:
        raise UnreadableError(f"it is no EPUB ({error})") from error


def _book(archive: ZipFile) -> Extracted:
    container = ElementTree.fromstring(_read(archive, _CONTAINER))  # noqa: S314
    root = next((one.get("full-path") for one in container.iter() if one.tag.endswith("}rootfile")), None)
    if root is None:
        raise UnreadableError("it is no EPUB (its container names no root file)")
    package = ElementTree.fromstring(_read(archive, root))  # noqa: S314
    items = {one.get("id"): one for one in package.iter() if one.tag.endswith("}item")}
    chapters, problems = [], []
    for reference in (one for one in package.iter() if one.tag.endswith("}itemref")):
        item = items.get(reference.get("idref"))
        if item is None or "html" not in (item.get("media-type") or ""):
            continue
        name = posixpath.normpath(posixpath.join(posixpath.dirname(root), unquote(item.get("href") or "")))
        try:
            chapters.append(_as_markdown(read_html(_read(archive, name).decode("utf-8-sig"))))
        except (KeyError, ValueError, RuntimeError) as error:  # RuntimeError: an encrypted file of the archive
            problems.append(f"chapter {name} cannot be read ({error})")
    if problems and not chapters:
        raise UnreadableError(problems[0])
    about = [(name, package.findtext(f".//{_DC}{tag}")) for name, tag in (("title", "title"), ("author", "creator"))]
    about.append(("language", package.findtext(f".//{_DC}language")))
    return Extracted(cleaned("\n\n".join(filter(None, chapters))), described(about), problems)


def _read(archive: ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > _LARGEST:
        raise UnreadableError(f"{name} in it has {info.file_size} bytes, expected {_LARGEST} at most")
    return archive.read(info)


def _as_markdown(page: SourceText) -> str:
    parts, at = [], 0
    for heading in page.headings:
        parts += [page.text[at : heading.start], f"\n\n{'#' * min(heading.level, 6)} {heading.title}\n\n"]
        at = heading.end
    return _GAP.sub("\n\n", "".join([*parts, page.text[at:]])).strip()
