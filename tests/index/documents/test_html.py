"""HTML: what a browser shows is read, whatever is left out or closed oddly; the same text as lexbor's tree gives."""

import re
from pathlib import Path

import pytest
from selectolax.lexbor import LexborHTMLParser

from index.documents.markup import read_markup

CASES = Path(__file__).parents[4] / "shared" / "cases"
XHTML = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">'


def text_of(source: str, *, main_text: bool = False) -> str:
    return " ".join(read_markup(source, "html", main_text=main_text).text.split())


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            XHTML + '<head><title>C</title><script src="k.js"/></head><body><h1>One</h1><p>Two.</p></body></html>',
            "One Two.",
        ),
        (XHTML + "<head><title/></head><body><p>Two.</p></body></html>", "Two."),
        (XHTML + "<body><iframe/><p>Two.</p><div/><p>Three.</p></body></html>", "Two. Three."),
        ('<body><h1>Help</h1><a><svg class="i" viewBox="0 0 1 1"/> Link</a><p>Five days.</p>', "Help Link Five days."),
        ("<body><svg><path d='M0'/><text>no</text></svg><p>Five days.</p>", "Five days."),
        ("<body><math/><p>Five.</p>", "Five."),
        ('<body><script src="x"/><p>Five.</p>', "Five."),
        ('<body><iframe src="x"/><p>Five.</p>', "Five."),
        ("<head><title/></head><body><p>Five.</p>", "Five."),
        (
            "<!DOCTYPE html><html><head><meta charset=utf-8><title>R</title><h1>Refunds</h1><p>Five days.</p>",
            "Refunds Five days.",
        ),
        ("<html><head><title>R</title>Text at once.<p>Five.</p>", "Text at once. Five."),
        ("<html><head><style>a{}</style><link rel=x><body><p>Five.</p>", "Five."),
        (XHTML + "<body><p><![CDATA[a < b && c]]> and more</p></body></html>", "a < b && c and more"),
        ("<p>a<br/>b<hr/>c", "a b c"),
        ("<p>one<script>var x = '<p>no</p>';</script> two", "one two"),
        ("<div/>inside<p>Five.</p>", "inside Five."),
        ("<template><p>no</p></template><p>Five.</p>", "Five."),
        ("<p>1 < 2 and 3 > 2 &lt; &amp;", "1 < 2 and 3 > 2 < &"),
    ],
)
def test_what_a_browser_shows_is_read(source: str, expected: str):
    assert text_of(source) == expected


PAGES = [
    "<!doctype html><html><head><title>T</title></head><body><h1>A</h1><p>One <b>two</b>.</p><ul><li>x<li>y</ul>",
    "<html><head><meta charset=utf-8><body><p>One<p>Two<table><tr><td>a<td>b</table>",
    "<p>One</p><svg viewBox='0 0 1 1'><g><path/></g></svg><p>Two</p><math><mi>x</mi></math>",
    "<body><div><p>nested <em>words</em></div><!-- no --><p>after",
    "<head><script>if (a < b) {}</script></head><body>text<noscript>none</noscript></body>",
    "<html><head><base href=x><h2>Heading</h2><p>Text</p>",
]


@pytest.mark.parametrize("page", PAGES)
def test_the_text_is_that_of_a_tree_builder(page: str):
    tree = LexborHTMLParser(page)
    for node in tree.css("script, style, svg, math, noscript, template, head"):
        node.decompose()
    body = tree.body
    expected = "" if body is None else body.text(separator=" ")
    assert re.sub(r"\W+", " ", text_of(page)).split() == re.sub(r"\W+", " ", expected).split()


def test_navigation_and_banners_are_left_out_by_choice():
    page = (
        '<body class="cookie-enabled"><nav><a>Home</a><nav>Deep</nav></nav>'
        '<div id="CookieBanner"><div>We use</div> cookies</div>'
        '<main><h1>Title</h1><p>Text.</p><div role="navigation">more</div></main><footer><p>Imprint</p></footer>'
    )
    assert "Home" in text_of(page)
    assert "Imprint" in text_of(page)
    assert text_of(page, main_text=True) == "Title Text."


@pytest.mark.parametrize(
    ("source", "headings"),
    [
        ("---\n\n# First\n\nOne.\n\n---\n\n# Second\n", ["First", "Second"]),
        ("---\ntitle: x\n# a comment\n---\n# Real\n", ["Real"]),
        ("---\n# a comment\ntitle: x\n---\n# Real\n", ["Real"]),
        ('+++\ntitle = "x"\n# a comment\n+++\n\n# Real\n\nText.\n', ["Real"]),
        ("---\n# Heading\n---\n", ["Heading"]),
        ("+++ no\n# Heading\n", ["Heading"]),
        ("# Only\n---\na: b\n---\n", ["Only"]),
    ],
)
def test_front_matter_is_what_is_written_as_such(source: str, headings: list[str]):
    assert [heading.title for heading in read_markup(source, "markdown").headings][: len(headings)] == headings


@pytest.mark.shared
def test_the_cases_of_strangers():
    if not CASES.exists():
        pytest.skip("no shared data")
    expected = {
        "cdata.html": "a < b and more", "head_omitted_end.html": "Refunds Your refund takes five days.",
        "svg_selfclose.html": "Help Link Your refund takes five days.",
        "xhtml_script.xhtml": "Chapter 1 Call me Ishmael.",
    }  # fmt: skip
    for name, text in expected.items():
        assert text_of((CASES / name).read_text(encoding="utf-8")) == text, name
