"""Documents as people have them: each format read, each failure named, and a process that survives both."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from index import Collection
from index.documents.formats.extracted import Extracted, UnreadableError, table_lines, unhyphenated
from index.documents.formats.reading import FORMATS, read_document
from index.ingest.add_files import AddOptions, add_files
from index.ingest.document_process import DocumentProcess


def pdf_of(pages: list[str]) -> bytes:
    """A PDF with a line of text on each page, written by hand: what reads it is what is tested."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    kids = []
    for text in pages:
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET" if text else ""
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        content = len(objects)
        font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {content} 0 R "
            f"/Resources << /Font << /F1 {font} >> >> >>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(kids)}] >>"
    objects.append("<< /Title (A report) /Author (Ann) >>")
    body, offsets = "%PDF-1.4\n", []
    for number, text in enumerate(objects, start=1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{text}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    trailer = f"<< /Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R >>"
    body += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    return (body + f"trailer\n{trailer}\nstartxref\n{body.index('xref')}\n%%EOF\n").encode("latin-1")


def write_docx(path: Path) -> None:
    from docx import Document

    document = Document()
    document.core_properties.title = "Handbook"
    document.add_heading("Cards", level=1)
    document.add_paragraph("A lost card is blocked at once.")
    document.add_paragraph("# no heading")
    document.add_paragraph("call us", style="List Bullet")
    table = document.add_table(rows=2, cols=2)
    for row, cells in zip(table.rows, (("fee", "amount"), ("abroad", "2 percent")), strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    document.add_heading("Rates", level=2)
    document.add_paragraph("Rates are of the day.")
    document.save(str(path))


def write_pptx(path: Path) -> None:
    from pptx import Presentation
    from pptx.util import Inches

    presentation = Presentation()
    for title, body in (("First slide", "Fees abroad"), ("Second slide", "Limits of cards")):
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = body
    table = slide.shapes.add_table(2, 2, Inches(1), Inches(1), Inches(4), Inches(1)).table
    for row, cells in enumerate((("card", "limit"), ("gold", "5000"))):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    slide.notes_slide.notes_text_frame.text = "Say it slowly."
    presentation.save(str(path))


def write_xlsx(path: Path) -> None:
    from datetime import date

    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    sheet.title = "Fees"
    for row in (["fee", "amount", "since"], ["abroad", 2.0, date(2024, 1, 2)], [None, None, None], ["cash", 1.5, None]):
        sheet.append(row)
    book.create_sheet("Empty")
    book.save(path)


def write_epub(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OEBPS/content.opf"/></rootfiles></container>',
        )
        items = '<item id="b" href="b%20c.xhtml" media-type="application/xhtml+xml"/>'
        items += '<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/>'
        archive.writestr(
            "OEBPS/content.opf",
            '<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
            f"<dc:title>Fables</dc:title><dc:creator>Aesop</dc:creator></metadata><manifest>{items}</manifest>"
            '<spine><itemref idref="a"/><itemref idref="b"/></spine></package>',
        )
        archive.writestr("OEBPS/a.xhtml", "<html><body><h1>The fox</h1><p>Sour grapes.</p></body></html>")
        archive.writestr("OEBPS/b c.xhtml", "<html><body><h1>The hare</h1><p>A slow race.</p></body></html>")


def message() -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = "Lost card", "ann@example.org", "desk@example.org"
    mail["Date"] = "Mon, 02 Nov 2026 10:00:00 +0000"
    mail.set_content("My card is gone.")
    mail.add_alternative("<p>My card is <b>gone</b>.</p>", subtype="html")
    mail.add_attachment(b"x", maintype="image", subtype="png", filename="photo.png")
    return mail


WRITERS: dict[str, Callable[[Path], Any]] = {
    ".pdf": lambda path: path.write_bytes(pdf_of(["Cards are blocked.", "", "Rates of the day."])),
    ".docx": write_docx,
    ".pptx": write_pptx,
    ".xlsx": write_xlsx,
    ".epub": write_epub,
    ".eml": lambda path: path.write_bytes(message().as_bytes()),
    ".mbox": lambda path: path.write_bytes(b"".join(b"From x Mon\n" + message().as_bytes() + b"\n" for _ in range(2))),
}
EXPECTED: dict[str, tuple[str, dict[str, Any]]] = {
    ".pdf": ("Cards are blocked.\f\fRates of the day.", {"title": "A report", "author": "Ann", "pages": 3}),
    ".docx": (
        "# Cards\n\nA lost card is blocked at once.\n\n\\# no heading\n\n- call us\n\nfee: abroad; amount: 2 percent"
        "\n\n## Rates\n\nRates are of the day.",
        {"title": "Handbook", "author": "python-docx"},
    ),
    ".pptx": (
        "First slide\n\nFees abroad\fSecond slide\n\nLimits of cards\n\ncard: gold; limit: 5000\n\nSay it slowly.",
        {"pages": 2},
    ),
    ".xlsx": (
        "# Fees\n\nfee: abroad; amount: 2; since: 2024-01-02\n\nfee: cash; amount: 1.5",
        {"author": "openpyxl"},
    ),
    ".epub": ("# The fox\n\nSour grapes.\n\n# The hare\n\nA slow race.", {"title": "Fables", "author": "Aesop"}),
    ".eml": (
        "Subject: Lost card\nFrom: ann@example.org\nTo: desk@example.org\nDate: Mon, 02 Nov 2026 10:00:00 +0000\n\n"
        "My card is gone.",
        {
            "subject": "Lost card",
            "from": "ann@example.org",
            "to": "desk@example.org",
            "date": "2026-11-02T10:00:00+00:00",
            "attachments": ["photo.png"],
        },
    ),
    ".mbox": ("", {"pages": 2}),
}


@pytest.fixture(scope="module")
def process() -> Iterator[DocumentProcess]:
    with DocumentProcess(seconds=60) as running:
        yield running


@pytest.mark.parametrize("suffix", list(FORMATS))
def test_every_format_gives_its_text_and_what_it_says_of_itself(suffix: str, tmp_path: Path, process: DocumentProcess):
    path = tmp_path / f"Ä file{suffix.upper()}"
    WRITERS[suffix](path)
    extracted = process.read(path)
    text, metadata = EXPECTED[suffix]
    if suffix == ".mbox":
        text = "\f".join([EXPECTED[".eml"][0]] * 2)
    assert extracted.metadata == metadata
    assert " ".join(extracted.text.split(" ")) == text
    assert extracted == read_document(path)  # the process changes nothing


@pytest.mark.parametrize("suffix", list(FORMATS))
@pytest.mark.parametrize("kind", ["empty", "garbage", "cut", "another", "a folder"])
def test_a_damaged_document_is_one_reason_and_the_process_goes_on(
    suffix: str, kind: str, tmp_path: Path, process: DocumentProcess
):
    path = tmp_path / f"x{suffix}"
    if kind == "a folder":
        path.mkdir()
    elif kind == "cut":
        WRITERS[suffix](path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    else:
        path.write_bytes({"empty": b"", "garbage": bytes(range(256)) * 40, "another": b"\x89PNG\r\n\x1a\n\0\0"}[kind])
    try:
        extracted = process.read(path)
    except UnreadableError as error:
        said = str(error)
    else:
        said = extracted.text.strip()
        assert suffix in (".eml", ".mbox", ".pdf")  # what is left of these can be read
        assert kind == "cut"
    assert said


def test_an_encrypted_pdf_and_a_scan_say_what_they_are(tmp_path: Path, process: DocumentProcess):
    from pypdf import PdfReader, PdfWriter

    (tmp_path / "plain.pdf").write_bytes(pdf_of(["secret"]))
    writer = PdfWriter(clone_from=PdfReader(tmp_path / "plain.pdf"))
    writer.encrypt("password", algorithm="RC4-128")
    writer.write(tmp_path / "locked.pdf")
    with pytest.raises(UnreadableError, match="encrypted"):
        process.read(tmp_path / "locked.pdf")
    (tmp_path / "scan.pdf").write_bytes(pdf_of(["", ""]))
    with pytest.raises(UnreadableError, match="OCR"):
        process.read(tmp_path / "scan.pdf")


def bomb(path: Path) -> None:
    """A workbook whose strings take two hundred megabytes."""
    write_xlsx(path)
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    row = b'<row r="1"><c r="A1" t="inlineStr"><is><t>' + b"x" * 200_000_000 + b"</t></is></c></row>"
    name = "xl/worksheets/sheet1.xml"
    start, end = parts[name].index(b"<sheetData>") + 11, parts[name].index(b"</sheetData>")
    parts[name] = parts[name][:start] + row + parts[name][end:]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        for part, content in parts.items():
            new.writestr(part, content)


def test_memory_and_time_are_limited_and_the_next_document_is_read(tmp_path: Path):
    bomb(tmp_path / "bomb.xlsx")
    (tmp_path / "good.pdf").write_bytes(pdf_of(["still here"]))
    with DocumentProcess(seconds=60, memory=2**27) as process:
        with pytest.raises(UnreadableError, match=r"memory|ended"):
            process.read(tmp_path / "bomb.xlsx")
        assert process.read(tmp_path / "good.pdf").text == "still here"
    with DocumentProcess(seconds=0.2, memory=2**32) as process:
        with pytest.raises(UnreadableError, match=r"longer than 0\.2 seconds"):
            process.read(tmp_path / "bomb.xlsx")
        process._seconds = 60
        assert process.read(tmp_path / "good.pdf").text == "still here"
    process.close()


def test_a_folder_of_documents_is_stored_with_pages_and_each_failure_is_named(folder: Path, tmp_path: Path):
    from encoder_tools import OnnxEncoder

    docs = tmp_path / "docs"
    docs.mkdir()
    for suffix, write in WRITERS.items():
        write(docs / f"file{suffix}")
    (docs / "bad.pdf").write_bytes(b"%PDF-1.4 and nothing else")
    (docs / "rates.csv").write_text("currency,rate\nEUR,1.1\n")
    (docs / "old.doc").write_bytes(b"\xd0\xcf\x11\xe0")
    said: list[str] = []
    with Collection.create(folder, OnnxEncoder()) as collection:
        total = add_files(collection, folder, [docs], AddOptions(sync=True), said.append)
        assert total.stored == len(WRITERS) + 1
        pages = {one.text: one.metadata for one in collection.scan(where={"document": "file.pdf"})}
        assert any(metadata["source_page"] == 1 and metadata["title"] == "A report" for metadata in pages.values())
        headings = [one.metadata.get("headings") for one in collection.scan(where={"document": "file.docx"})]
        assert ["Cards"] in headings
        assert [one.text for one in collection.scan(where={"document": "rates.csv"})] == ["currency: EUR; rate: 1.1"]
        again = add_files(collection, folder, [docs], AddOptions(sync=True), said.append)
        assert (again.stored, again.unchanged) == (0, total.stored)
    rejected = [json.loads(line) for line in folder.with_name(f"{folder.name}.rejected.jsonl").read_text().splitlines()]
    reasons = " ".join(one["reason"] for one in rejected)
    assert "bad.pdf cannot be read: it is damaged" in reasons
    assert any("1 .doc" in line for line in said)


def test_pages_are_numbered_where_chunks_begin():
    from encoder_tools import OnnxEncoder
    from index import Chunking, Splitter

    splitter = Splitter(Chunking(tokens=16, overlap=0, kind="pages"), OnnxEncoder())
    source = "\f".join(f"Page {number} says something about cards and rates. " * 2 for number in range(1, 5))
    chunks = splitter.split(source)
    for chunk in chunks:
        start = chunk.start + len(chunk.text) - len(chunk.text.lstrip())
        assert chunk.page == source.count("\f", 0, start) + 1
        assert chunk.text == source[chunk.start : chunk.end].replace("\f", "\n")
    assert {chunk.page for chunk in chunks} == {1, 2, 3, 4}


def test_small_parts():
    assert unhyphenated("exam-\nple, well-\nKnown, 12-\n34") == "example, well-\nKnown, 12-\n34"
    assert list(table_lines([["1", "2"], ["3", None]])) == ["1; 2", "3"]
    assert list(table_lines([["a", "b"], ["x", 1, "more"]])) == ["a: x; b: 1; more"]
    assert list(table_lines([])) == []
    assert Extracted("x").problems == []


def test_a_folder_is_followed(counted: Any, folder: Path, tmp_path: Path):
    import threading
    import time

    from index.ingest.watch import check_watched, watch_folders

    docs = tmp_path / "docs"
    (docs / "sub").mkdir(parents=True)
    (docs / "a.txt").write_text("first text")
    (docs / "sub" / "b.txt").write_text("second text")
    said: list[str] = []
    options = AddOptions(chunk_tokens=0, sync=True)
    with Collection.create(folder, counted) as collection:
        add_files(collection, folder, [docs], options, said.append)
        stop = threading.Event()
        start = time.time()
        (docs / "early.txt").write_text("before it listens")
        arguments = (collection, folder, [docs], options, said.append, stop, start)
        thread = threading.Thread(target=watch_folders, args=arguments)
        thread.start()

        def until(condition: Callable[[], bool]) -> None:
            end = time.monotonic() + 60
            while not condition():
                assert time.monotonic() < end, said
                time.sleep(0.05)

        try:
            until(lambda: collection.get(["early.txt"]) != [None])
            (docs / "early.txt").unlink()
            (docs / "c.md").write_text("# third text")
            until(lambda: collection.get(["c.md"]) != [None])
            (docs / "a.txt").write_text("changed text")
            until(lambda: collection.get(["a.txt"])[0].text == "changed text")
            encoded = len(counted.seen)
            (docs / "c.md").rename(docs / "d.md")
            until(lambda: set(collection.ids()) == {"a.txt", "sub/b.txt", "d.md"})
            assert len(counted.seen) == encoded  # a file that is moved is not encoded again
            (docs / "sub" / "b.txt").unlink()
            (docs / "sub").rmdir()
            (docs / "bad.pdf").write_bytes(b"no document")
            until(lambda: set(collection.ids()) == {"a.txt", "d.md"} and any("1 rejected" in line for line in said))
        finally:
            stop.set()
            thread.join()
    from encoder_tools.errors import InputError

    with pytest.raises(InputError, match="not a folder"):
        check_watched([docs / "a.txt"])


@pytest.fixture
def counted(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An encoder that tells which documents it has encoded."""
    encode = encoder.encode_document
    encoder.seen = []
    monkeypatch.setattr(encoder, "encode_document", lambda texts: (encoder.seen.extend(texts), encode(texts))[1])
    return encoder
