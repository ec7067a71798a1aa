"""The page, in a real browser. Screenshots are kept in ``work/screenshots``: look at them after a change."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from serving import ROOT, DebugEncoder, serving

from encoder_tools.runtime import OnnxEncoder
from heads import FittedHead
from heads.serving.abstention import Abstention
from heads.serving.ood import MaxProbability, Scope
from heads.serving.scorers import Linear
from index import Collection
from service.auth import Access, Keys
from service.demo.texts import read_corpus
from service.serving.registry import ServedHead
from service.serving.state import ServiceState

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def chromium() -> str | None:
    """Debian's, or the one that `playwright install chromium` downloaded."""
    system = shutil.which("chromium") or shutil.which("chromium-browser")
    cache = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", Path.home() / ".cache" / "ms-playwright"))
    cache = cache if cache.is_dir() else Path.home() / "Library" / "Caches" / "ms-playwright"
    downloaded = [
        *cache.glob("chromium-*/chrome-linux*/chrome"),
        *cache.glob("chromium-*/chrome-mac*/*.app/Contents/MacOS/*"),
    ]
    return system or (str(sorted(downloaded)[-1]) if downloaded else None)


CHROMIUM = chromium()
SHOTS = ROOT / "work" / "screenshots"
EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
REQUIRED = os.environ.get("ENCODER_TOOLS_REQUIRE_BROWSER") == "1"
"""Set by .ci/run, which makes sure that there is a browser: there, a test without one fails and is not skipped."""
needs_browser = pytest.mark.skipif(
    CHROMIUM is None and not REQUIRED, reason="needs a browser: apt install chromium, or playwright install chromium"
)


@pytest.fixture(scope="module")
def model() -> OnnxEncoder:
    return OnnxEncoder("default")


@pytest.fixture(scope="module")
def served(model: OnnxEncoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    corpus = read_corpus()
    folder = tmp_path_factory.mktemp("texts")
    collection = Collection.create(folder / "collection", model)
    texts = [paragraph.text for paragraph in corpus.paragraphs]
    metadata = [{"title": text.split()[0], "length": len(text), "kind": "xquad"} for text in texts]
    collection.upsert([*range(len(texts)), EVIL], [*texts, f"oxygen {EVIL} found"], [*metadata, {EVIL: EVIL}])
    labeled = {example.label: example.text for example in corpus.train}
    names = tuple(sorted(labeled)[:12])
    head = FittedHead.linear(25 * model.encode([labeled[name] for name in names]), [0.0] * 12, names, model.fingerprint)
    state = ServiceState.of(model, ("default",), collection, head)
    with serving(state) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


class Watched:
    """A page, and what its console and its requests said."""

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        self.asked: set[str] = set()
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.asked.add(request.url.split("/")[2]))


@pytest.fixture
def watched(browser: Browser, served: str) -> Iterator[Watched]:
    found = Watched(browser, viewport={"width": 1280, "height": 860})
    found.page.goto(served)
    yield found
    assert found.errors == []
    assert found.asked == {served.split("/")[2]}, "the page asked another host"
    assert found.page.evaluate("window.hacked") is None
    found.context.close()


@needs_browser
def test_search_shows_three_ways_side_by_side(watched: Watched):
    page = watched.page
    page.get_by_role("searchbox").fill("Who discovered oxygen?")
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_role("heading", name="Both, fused").wait_for()
    columns = page.locator(".columns .card")
    assert columns.count() == 3
    assert "Scheele" in columns.nth(0).inner_text()
    assert columns.nth(1).locator("mark").first.inner_text().lower() == "oxygen"
    assert EVIL in columns.nth(1).inner_text()  # as text
    assert "ms" in columns.nth(0).inner_text()
    page.get_by_text("Options").click()
    page.get_by_label("Filter over metadata").fill('{"length": {"$lt": 300}}')
    page.get_by_label("Show").select_option("hybrid")
    page.get_by_role("button", name="Search", exact=True).click()
    columns.nth(1).wait_for(state="detached")
    page.screenshot(path=SHOTS / "search.png", full_page=True)


@needs_browser
def test_what_is_wrong_is_shown_where_it_was_asked(watched: Watched):
    page = watched.page
    page.get_by_text("Options").click()
    page.get_by_role("searchbox").fill("a")
    page.get_by_label("Filter over metadata").fill("{nonsense")
    page.get_by_role("button", name="Search", exact=True).click()
    assert "not JSON" in page.get_by_role("alert").last.inner_text()
    page.get_by_label("Filter over metadata").fill('{"$evil": 1}')
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_text("where a field stands").wait_for()
    page.screenshot(path=SHOTS / "error.png", full_page=True)
    watched.errors[:] = [error for error in watched.errors if "400" not in error]  # the browser's own word on a 400


@needs_browser
def test_the_map_is_drawn_colored_hovered_clicked_and_takes_a_query(watched: Watched):
    page = watched.page
    page.get_by_role("tab", name="Map").click()
    page.get_by_text("documents along the two directions").wait_for()
    page.get_by_label("Colour by").select_option("length")
    page.locator(".legend span").first.wait_for()
    page.get_by_label("Query").fill("Who discovered oxygen?")
    page.get_by_role("button", name="Drop it").click()
    page.get_by_role("heading", name="Nearest to the query").wait_for()
    assert "Scheele" in page.locator(".hit").first.inner_text()
    canvas = page.locator("canvas")
    box = canvas.bounding_box()
    assert box is not None
    place = page.evaluate(_SOMETHING_DRAWN)
    page.mouse.move(box["x"] + place[0], box["y"] + place[1])
    page.locator(".tip:not([hidden])").wait_for()
    page.mouse.click(box["x"] + place[0], box["y"] + place[1])
    page.get_by_role("heading", name="Neighbors of").wait_for()
    before = canvas.screenshot()
    page.mouse.wheel(0, -400)
    canvas.press("ArrowLeft")
    page.wait_for_timeout(100)
    assert canvas.screenshot() != before
    canvas.press("0")
    page.screenshot(path=SHOTS / "map.png", full_page=True)


_SOMETHING_DRAWN = """() => {
  const canvas = document.querySelector("canvas"), pen = canvas.getContext("2d");
  const {data, width} = pen.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 3 + 4 * width * Math.floor(canvas.height / 3); i < data.length; i += 4)
    if (data[i] > 150) {
      const at = (i - 3) / 4;
      return [at % width / devicePixelRatio + 1, Math.floor(at / width) / devicePixelRatio + 1];
    }
}"""


@needs_browser
def test_classify_shows_bars_and_says_when_it_does_not_know(watched: Watched):
    page = watched.page
    page.get_by_role("tab", name="Classify").click()
    page.get_by_label("Text").fill("how do I activate my card?")
    page.get_by_role("button", name="Classify", exact=True).click()
    page.locator(".bar").first.wait_for()
    assert "activate_my_card" in page.locator(".bar").first.inner_text()
    page.screenshot(path=SHOTS / "classify.png", full_page=True)
    page.get_by_label("Say").fill("100")
    page.get_by_role("button", name="Classify", exact=True).click()
    page.locator(".unsure").wait_for()
    assert "Don’t know" in page.locator(".unsure").inner_text()


@needs_browser
def test_classify_shows_every_kind_of_head(browser: Browser, model: OnnxEncoder):
    vectors = model.encode(["it rains", "it is sunny", "play music"])
    scorer, names = Linear(25 * vectors, np.zeros(3)), ("rain", "sun", EVIL)
    never, guaranteed = Linear(vectors, np.full(3, -9)), Abstention(1.0, "errors", 0.1, 0.9, 9)
    strict = Scope((MaxProbability(),), np.ones(1), np.zeros(1), -1.0, 0.95)  # everything is strange to it
    heads = {
        "many": FittedHead(scorer, names, model.fingerprint, link="sigmoid", thresholds=np.full(3, 0.999)),
        "none": FittedHead(never, names, model.fingerprint, link="sigmoid", thresholds=np.full(3, 0.5)),
        "number": FittedHead(Linear(vectors[:1], np.array([41.0])), ("value",), model.fingerprint, link="identity"),
        "unsure": FittedHead(scorer, names, model.fingerprint, scope=strict, abstention=guaranteed),
    }
    state = ServiceState.of(model, ("default",))
    state.registry.exchange({name: ServedHead(head, "default") for name, head in heads.items()}, {})
    with serving(state) as url:
        seen = Watched(browser, viewport={"width": 1280, "height": 860})
        seen.page.goto(url)
        seen.page.get_by_role("tab", name="Classify").click()
        seen.page.get_by_label("Text").fill("it rains and rains. " * 200)
        seen.page.get_by_role("button", name="Classify", exact=True).click()
        seen.page.locator(".bar.chosen").first.wait_for()
        cards = {
            card.locator("h3").inner_text(): card.inner_text() for card in seen.page.locator(".columns .card").all()
        }
        seen.page.screenshot(path=SHOTS / "classify-kinds.png", full_page=True)
        seen.context.close()
    assert "✓ rain" in cards["many"]
    assert "pieces" in cards["many"]
    assert "None of the labels" in cards["none"]
    assert "41." in cards["number"]
    assert "like nothing" in cards["unsure"]
    assert "no label is probable enough" in cards["unsure"]
    assert EVIL in cards["many"]
    assert seen.errors == []


@needs_browser
def test_the_calls_it_shows_work_as_they_stand(watched: Watched, served: str):
    import subprocess
    import sys

    page = watched.page
    page.get_by_role("searchbox").fill('it\'s a "quoted" query')
    page.get_by_role("button", name="Search", exact=True).click()
    page.locator(".columns .card").first.wait_for()
    page.get_by_role("tab", name="Try the API").click()
    page.locator("#curl").wait_for()
    options = page.get_by_label("Call").locator("option").all_inner_texts()
    assert options[0] == "Your last call on this page"
    assert len(options) == 7
    for option in options:
        page.get_by_label("Call").select_option(label=option)
        curl, python = page.locator("#curl").inner_text(), page.locator("#python").inner_text()
        assert served in curl
        done = subprocess.run(["sh", "-c", curl.replace("curl", "curl -sSf", 1)], capture_output=True, text=True)
        assert done.returncode == 0, (curl, done.stderr)
        subprocess.run([sys.executable, "-c", python], check=True, capture_output=True)
    page.screenshot(path=SHOTS / "try.png", full_page=True)


@needs_browser
def test_models_and_live_figures(watched: Watched, model: OnnxEncoder):
    page = watched.page
    page.get_by_role("tab", name="Models").click()
    page.get_by_text(model.fingerprint).wait_for()
    assert "STS-B test" in page.locator("main").inner_text()
    page.screenshot(path=SHOTS / "models.png", full_page=True)
    page.get_by_role("tab", name="Live").click()
    page.get_by_text("tokens per second it can do").wait_for()
    page.screenshot(path=SHOTS / "live.png", full_page=True)


@needs_browser
def test_it_works_with_the_keyboard_alone(watched: Watched):
    page = watched.page
    page.get_by_role("tab", name="Search").focus()
    for name in ("Map", "Classify"):
        page.keyboard.press("ArrowRight")
        page.get_by_role("heading", name=name, exact=True, level=2).wait_for()
    page.get_by_label("Text").focus()
    page.keyboard.type("activate my card")
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator(".bar").first.wait_for()


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_by_day_and_by_night(browser: Browser, served: str, scheme: Any):
    phone = Watched(browser, viewport={"width": 375, "height": 740}, color_scheme=scheme, has_touch=True)
    phone.page.goto(served)
    phone.page.get_by_role("searchbox").fill("Who discovered oxygen?")
    phone.page.get_by_role("button", name="Search", exact=True).click()
    phone.page.locator(".columns .card").first.wait_for()
    for tab in ("Search", "Map", "Classify", "Try the API", "Models", "Live"):
        phone.page.get_by_role("tab", name=tab).click()
        phone.page.get_by_role("heading", level=2).first.wait_for()
        wide = phone.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, tab
    phone.page.get_by_role("tab", name="Map").click()
    phone.page.get_by_text("documents along").wait_for()
    phone.page.wait_for_timeout(200)
    phone.page.screenshot(path=SHOTS / f"phone-{scheme}.png")
    assert phone.errors == []
    phone.context.close()


@needs_browser
def test_a_locked_server_asks_for_the_key(browser: Browser, model: OnnxEncoder):
    state = ServiceState.of(model, ("default",))
    state.access = Access(Keys.of([], ["a-reading-key"]))
    with serving(state) as url:
        locked = Watched(browser)
        locked.page.goto(url)
        locked.page.get_by_label("API key").fill("wrong-key-here")
        locked.page.get_by_role("button", name="Use it").click()
        locked.page.get_by_text("The key is wrong").wait_for()
        locked.page.get_by_label("API key").fill("a-reading-key")
        locked.page.get_by_role("button", name="Use it").click()
        locked.page.get_by_text("no collection yet").wait_for()
        locked.page.screenshot(path=SHOTS / "locked.png")
        locked.context.close()


def test_the_pages_files_and_no_others_are_given(url: str):
    page = httpx.get(url, headers={"accept": "text/html"})
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert httpx.get(f"{url}/page/main.js").headers["content-type"].startswith("text/javascript")
    for name in ("nothing.js", "..%2f__init__.py", "__init__.py", "%2fetc%2fpasswd"):
        assert httpx.get(f"{url}/page/{name}").status_code == 404
    assert httpx.get(url).json()["name"] == "encoder-tools"


def test_its_files_are_small_and_ask_no_other_host():
    for file in Path(ROOT / "service/page/static").iterdir():
        text = file.read_text()
        assert len(text.splitlines()) <= 300
        assert "https://" not in text
        assert "innerHTML" not in text.replace("without innerHTML", "")


def test_maps_without_many_documents(tmp_path: Path, encoder: DebugEncoder):
    with Collection.create(tmp_path / "c", encoder) as collection:
        assert collection.projection().points.shape == (0, 2)
        collection.upsert(["a"], ["one"])
        assert collection.projection().points.shape == (1, 2)
        collection.upsert(["b", "c"], ["two", "three"])
        collection.delete(["a"])
        layout = collection.projection()
        assert layout.ids == ["b", "c"]
        assert layout.sequence == collection.sequence
        assert layout.place(encoder.encode_document(["two"])) == pytest.approx(layout.points[:1], abs=1e-5)
