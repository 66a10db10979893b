"""The site of the committed suites in a real browser: from disk, without a network, on a phone too, for everybody."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
axe = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

LEADERBOARDS = Path(__file__).parents[2] / "leaderboards"
LONG = ("metric-trust",)  # a page for each of a hundred runs, of the same parts as the others
SUITES = sorted({file.parent.name for file in LEADERBOARDS.glob("*/records.jsonl")} - {*LONG})
PHONE, DESK = {"width": 375, "height": 800}, {"width": 1400, "height": 900}
OVERFLOWS = "() => document.documentElement.scrollWidth > document.documentElement.clientWidth"
UNFOLD = "() => document.querySelectorAll('details').forEach((part) => (part.open = true))"
AXE = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
LARGE = ("digits/index.html", "known-entropy/index.html")  # made of the same parts as the others
RULES_OF_COLOURS = ["color-contrast", "link-in-text-block"]
# The first two texts of each look: of one chain of tags and classes, which is what the style sheet knows.
MARK_LOOKS = """() => {
    const seen = {};
    for (const part of document.body.querySelectorAll("*")) {
        if (![...part.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim())) continue;
        let look = "";
        for (let up = part; up; up = up.parentElement) look += `${up.tagName}.${up.getAttribute("class")} `;
        seen[look] = (seen[look] ?? 0) + 1;
        if (seen[look] <= 2) part.dataset.look = "";
    }
}"""


class Site:
    """The pages of a folder, and a browser's tab that writes down what is wrong."""

    def __init__(self, folder, page):
        self.folder, self.page, self.faults = folder, page, []
        self.names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.html"))
        page.on("console", lambda said: self._fault(said.type, said.text))
        page.on("pageerror", lambda error: self._fault("error", error))
        page.on("requestfailed", lambda request: self._failed(request.url, request.failure))
        page.on("request", lambda request: self._request(request.url))

    def _fault(self, kind, text):
        self.faults.append(f"{self.page.url}: {kind}: {text}")

    def _failed(self, url, why):
        if why != "net::ERR_ABORTED":  # a picture that was still on its way when the page was left
            self._fault(why, url)

    def _request(self, url):
        if not url.startswith((self.folder.as_uri(), "data:")):
            self._fault("from elsewhere", url)

    def open(self, name, size=DESK):
        self.page.set_viewport_size(size)
        self.page.goto(f"{self.folder.as_uri()}/{name}")
        return self.page

    def one_of_each_kind(self):
        """Every page that is not a row's, and a page of each kind of row: kinds differ in their sections."""
        kinds = {}
        for name in self.names:
            text = (self.folder / name).read_text(encoding="utf-8")
            kinds.setdefault("".join(re.findall("<h2>(.*?)</h2>", text)) if "rows/" in name else name, name)
        return list(kinds.values())

    def prepare(self, name, size=DESK):
        """Opens a page for axe, and all that is folded on it."""
        self.open(name, size).evaluate(UNFOLD)
        self.page.evaluate(AXE)

    def violations(self, context="document", **options):
        """What axe-core finds on the page that is open."""
        options |= {"preload": False, "resultTypes": ["violations"]}
        found = self.page.evaluate(f"(options) => axe.run({context}, options)", options)["violations"]
        return [f"{self.page.url}: {fault['id']}: {fault['nodes'][0]['html'][:200]}" for fault in found]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, command_line):
    """The site of all committed suites and of one that was tampered with, and beside them a suite as one file."""
    made = tmp_path_factory.mktemp("made")
    shutil.copytree(LEADERBOARDS / "first", made / "tampered")
    shutil.copy(LEADERBOARDS / "first.toml", made / "tampered.toml")
    records = [json.loads(line) for line in (made / "tampered" / "records.jsonl").read_text().splitlines()]
    texts = {"message": "long" * 200, "traceback": "line\n" * 90, "log": "wide " * 200}
    for record in records:
        fit, step = record["fit"], record["fit"]["valid_step"]
        if record["spec"]["model"] == "gaussian":
            record |= {"status": "failed", "scores": {}, "failure": {"stage": "fit", "type": "OSError", **texts}}
        elif record["spec"]["model"] == "independent-pixels":
            record |= {"status": "skipped", "scores": {}, "reason": "does not apply"}
        elif step:
            best = fit["valid_score"]
            columns = {"step": [1, step], "epoch": [1, 2], "seconds": [1, 2], "loss": [best + 6, best]}
            fit["curve"] = columns | {"valid": [best + 5, best]}
    (made / "tampered" / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(LEADERBOARDS.parent)
        before = time.process_time()
        assert command_line("report", *SUITES, made / "tampered.toml", "-o", made / "site").code == 0
        assert time.process_time() - before < 60
        assert command_line("report", "first", "--one-file", "-o", made / "site" / "one.html").code == 0
    return made / "site"


@pytest.fixture(scope="module")
def site(folder):
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(offline=True).new_page()
        page.set_default_timeout(120_000)
        yield Site(folder, page)
        browser.close()


@pytest.fixture(scope="module")
def too_wide(site):
    """Opens every page on a phone, one of each kind at a desk as well; the pages that are wider than their window."""
    found, kinds = [], site.one_of_each_kind()
    for name in site.names:
        site.open(name, PHONE)
        for size in (PHONE, DESK) if name in kinds else (PHONE,):
            site.page.set_viewport_size(size)
            found += [(name, size)] if site.page.evaluate(OVERFLOWS) else []
    return found


def test_no_page_is_wider_than_its_window(too_wide, site):
    assert len(site.names) > 100
    assert too_wide == []


def test_no_page_has_an_error_or_asks_for_what_is_not_in_its_folder(too_wide, site):
    assert site.faults == []


@pytest.mark.parametrize("name", ["one.html", *(f"{suite}/index.html" for suite in [*SUITES, "tampered"])])
def test_a_page_is_no_wider_with_everything_unfolded(name, site):
    site.open(name, PHONE).evaluate(UNFOLD)
    assert not site.page.evaluate(OVERFLOWS)


def test_axe_finds_nothing_in_light_or_dark(site):
    found = []
    for name in (name for name in site.one_of_each_kind() if name not in LARGE):
        site.prepare(name)
        found += site.violations(rules={rule: {"enabled": False} for rule in RULES_OF_COLOURS})
        site.page.evaluate(MARK_LOOKS)
        for scheme in ("light", "dark"):
            site.page.emulate_media(color_scheme=scheme)
            found += site.violations("{include: [['[data-look]']]}", runOnly=RULES_OF_COLOURS)
    assert found == []


@pytest.mark.thorough  # the large pages too
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(scheme, size, site):
    site.page.emulate_media(color_scheme=scheme)
    found = []
    for name in site.names:
        site.prepare(name, size)
        found += [name] if site.page.evaluate(OVERFLOWS) else site.violations()
    assert found == []


# --- what a reader can do ---


def board_of(page):
    return page.locator("table.board").first


def shown(board):
    return board.locator("tbody").first.locator("tr:not([hidden]) th[scope=row]").all_inner_texts()


def test_a_click_on_the_head_of_a_column_sorts_by_it_up_and_down_and_back(site):
    board = board_of(site.open("digits/index.html"))
    as_ranked = shown(board)
    numeric = 0
    for column, head in enumerate(board.locator("thead th").all()):
        ways = set()
        for _ in range(2):
            head.get_by_role("button").click()
            ways.add(way := head.get_attribute("aria-sort"))
            assert board.locator("[aria-sort]").count() == 1
            cells = board.locator("tbody").first.locator(f"tr > :nth-child({column + 1})[data-n]")
            numbers = cells.evaluate_all("(cells) => cells.map((cell) => Number(cell.dataset.n))")
            assert numbers == sorted(numbers, reverse=way == "descending"), head.inner_text()
            numeric += len(set(numbers)) > 1
        assert ways == {"ascending", "descending"}
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") is None
        assert shown(board) == as_ranked
    assert numeric >= 4


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_the_keyboard_sorts_too(key, site):
    board = board_of(site.open("first/index.html"))
    as_ranked, heads = shown(board), board.locator("thead th")
    heads.first.get_by_role("button").focus()
    for head in heads.all():
        site.page.keyboard.press(key)
        assert head.get_attribute("aria-sort")
        if shown(board) != as_ranked:
            break
        site.page.keyboard.press("Tab")
    assert sorted(shown(board)) == sorted(as_ranked)
    assert shown(board) != as_ranked


def test_words_in_the_filter_leave_the_rows_that_have_them_all(site):
    page = site.open("digits/index.html")
    board, everything = board_of(page), len(shown(board_of(page)))
    field = page.get_by_label("Only rows with").first
    field.fill("pixelcnn GATED")
    assert 0 < len(shown(board)) < everything
    assert all("pixelcnn" in row.lower() and "gated" in row.lower() for row in shown(board))
    assert re.match(rf"{len(shown(board))} of \d+ rows", page.locator("p.filter output").first.inner_text())
    field.fill("")
    assert len(shown(board)) == everything


@pytest.mark.parametrize("part", ["details.badge", "details.matrix"])
def test_what_is_folded_is_opened_by_a_click_and_closed_by_a_key(part, site):
    folded = site.open("first/index.html").locator(part).first
    inside = folded.locator("li, td").first
    assert not inside.is_visible()
    folded.locator("summary").click()
    assert inside.is_visible()
    site.page.keyboard.press("Enter")
    assert not inside.is_visible()


def drawn(chart):
    """The axes of curves, and the rows, that are visible."""
    return [part.get_attribute("class") for part in chart.locator("svg.panel, path.curve").all() if part.is_visible()]


def test_switches_of_curves_choose_what_is_drawn(site):
    chart = site.open("tampered/index.html").locator(".curves:has(input[type=radio]):has(input[type=checkbox])").first
    before = drawn(chart)
    chart.locator("input[type=radio]:not(:checked)").first.click()
    others = drawn(chart)
    assert len(others) == len(before)
    assert others != before
    chart.locator("input[type=checkbox]").first.click()
    assert len(drawn(chart)) < len(others)


def test_in_one_file_the_name_of_a_model_opens_all_that_is_known_of_it(site):
    page = site.open("one.html")
    assert page.locator("details.row[open]").count() == 0
    board_of(page).locator("th[scope=row] a").first.click()
    assert page.locator("details.row[open]").get_by_text("Run it again").is_visible()


def test_in_one_file_columns_are_sorted(site):
    board = board_of(site.open("one.html"))
    names = board.locator("thead th.names button")
    names.click()
    up = shown(board)
    names.click()
    assert up == sorted(up, key=str.lower)
    assert shown(board) == up[::-1]


def test_nothing_that_a_reader_did_gave_an_error(site):
    assert site.faults == []
