"""The report in a browser: headless Chromium through Playwright; skipped, visibly, where either is missing."""

from __future__ import annotations

import pytest

from dftbparam.report.html import collect_results, render_page
from dftbparam.report.live import LiveSource
from dftbparam.store import TrialStore
from tests.report.support.live_store import begin, trial
from tests.report.support.run_folders import write_run
from tests.report.support.serving import served, standing_of

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install playwright")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    write_run(root / "set" / "Si", "Si", manifest={"command": "</script><img src=x onerror='document.title=1'>"})
    write_run(root / "set" / "Al", "Al", new=False)
    (root / "page.html").write_text(render_page(collect_results([root / "set"]), title="Report"), encoding="utf-8")
    return (root / "page.html").as_uri()


@pytest.fixture
def visit(browser, address):
    """Open the page at a width; every request but the page's own and every error fails the test."""
    contexts, troubles = [], []

    def go(width=1600, suffix="", **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((address, "data:", "blob:")) else troubles.append(request.url)
            ),
        )
        page.goto(address + suffix)
        return page

    yield go
    for context in contexts:
        context.close()
    assert troubles == []


def focused(page):
    return page.evaluate("document.activeElement.id")


@pytest.mark.parametrize("width", [390, 820, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_every_width_and_both_schemes(visit, width, scheme):
    page = visit(width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    box = page.locator("#cell-Si").bounding_box()
    assert box["width"] >= 24  # WCAG 2.5.8
    assert box["height"] >= 24
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 27)"
    assert dark == (scheme == "dark")
    page.locator("#cell-Si").click()
    assert page.evaluate("(d => d.scrollWidth <= d.clientWidth)(document.getElementById('detail'))")
    assert page.locator("#detail figure").count() == 7  # four crystals, bands and their errors, the search


def test_keyboard_alone(visit):
    page = visit()
    page.locator("#csv-all").focus()
    page.keyboard.press("Tab")
    assert focused(page) == "cell-Al"  # the first element with a result
    assert page.locator(".cell[tabindex='0']").count() == 1
    page.keyboard.press("ArrowRight")
    assert focused(page) == "cell-Si"
    page.keyboard.press("ArrowDown")
    assert focused(page) == "cell-Ge"
    page.keyboard.press("s")
    page.keyboard.press("i")
    assert focused(page) == "cell-Si"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.locator("#detail").get_attribute("open") is not None
    assert page.url.endswith("#Si")
    curve = page.locator("#detail [role=slider]").first
    curve.focus()
    page.keyboard.press("ArrowRight")
    assert "DFT" in curve.get_attribute("aria-valuetext")
    page.keyboard.press("Escape")
    assert page.locator("#detail").get_attribute("open") is None
    assert focused(page) == "cell-Si"


def test_an_element_without_result_says_why(visit):
    page = visit(suffix="#Fe")
    assert "No result. not in the folders given" in page.locator("#detail").inner_text()


def test_colours_numbers_and_labels_follow_the_choice(visit):
    page = visit()
    cell = page.locator("#cell-Si")
    assert cell.locator(".value").inner_text() == "2.0"
    page.check("input[value=difference]")
    assert cell.locator(".value").inner_text() == "−6.0"
    page.select_option("#figure", label="sound")
    assert cell.locator(".value").inner_text() == "better"
    assert "sound, difference: better" in cell.get_attribute("aria-label")


def test_csv_of_the_table_and_of_a_curve_png_of_a_curve(visit, tmp_path):
    page = visit()

    def saved(locator, name):
        with page.expect_download() as download:
            locator.click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
        return (tmp_path / name).read_bytes()

    assert saved(page.locator("#csv-all"), "elements.csv").count(b"\n") == 97
    page.locator("#cell-Si").click()
    assert saved(page.get_by_role("button", name="CSV of sc"), "Si-energy-volume-sc.csv").count(b"\n") == 50
    assert saved(page.get_by_role("button", name="PNG of sc"), "Si-energy-volume-sc.png")[:4] == b"\x89PNG"


def test_hostile_text_stays_text(visit):
    page = visit(suffix="#Si")
    assert "</script><img src=x" in page.locator("#detail").inner_text()
    assert page.title() == "Report"
    assert page.locator("img").count() == 0


def test_no_motion_where_none_is_wanted(visit):
    duration = "getComputedStyle(document.getElementById('cell-Si')).transitionDuration"
    assert visit(reduced_motion="reduce").evaluate(duration) == "0s"
    assert visit(reduced_motion="no-preference").evaluate(duration) != "0s"


@pytest.fixture
def live(browser, tmp_path):
    """A page that is served from a store, the store, and how many answers of the server to wait for."""
    with (
        TrialStore.open(tmp_path / "trials.sqlite") as store,
        TrialStore.open(tmp_path / "trials.sqlite", read_only=True) as reader,
    ):
        begin(store, "Si")
        store.append(trial("demo/Si", 0, 4.0))
        source = LiveSource(reader, standing_of(reader, ("Si", "Al"), "http://node7:8787/status"), "Live", every=0.1)
        with served(source) as server:
            context = browser.new_context(viewport={"width": 1200, "height": 900})
            page = context.new_page()
            troubles = []
            page.on("pageerror", lambda error: troubles.append(str(error)))
            page.on("request", lambda r: None if r.url.startswith((server.url, "data:")) else troubles.append(r.url))
            page.goto(server.url)
            yield page, store
            context.close()
        assert troubles == []


def test_the_live_page_follows_the_store(live):
    page, store = live
    cell = page.locator("#cell-Si .value")
    assert cell.inner_text() == "4.0"
    assert page.locator("#cell-Si").get_attribute("data-state") == "running"
    assert page.locator("#live-dask").get_attribute("href") == "http://node7:8787/status"
    store.append(trial("demo/Si", 1, 3.0))
    playwright.expect(cell).to_have_text("3.0")
    playwright.expect(page.locator("#live")).to_contain_text("2 of 10")
    # An element that is open is renewed where it stands, and keeps the reader's place and focus.
    page.locator("#cell-Si").click()
    detail = page.locator("#detail")
    playwright.expect(detail).to_contain_text("Of the search: the best trial so far")
    slider = detail.locator("[role=slider]").nth(1)
    slider.focus()
    top = page.evaluate("document.getElementById('detail').scrollTop = 200")
    store.append(trial("demo/Si", 2, 2.0))
    playwright.expect(detail.locator("td").filter(has_text="+2.0").first).to_be_visible()
    assert page.evaluate("document.getElementById('detail').scrollTop") == top
    assert page.evaluate("document.activeElement.getAttribute('role')") == "slider"
    page.keyboard.press("Escape")
    assert focused(page) == "cell-Si"
    store.set_state("demo/Si", "finished")
    playwright.expect(page.locator("#live-news")).to_have_text("Si finished")


def test_the_live_page_can_be_told_to_keep_still(live):
    page, store = live
    page.locator("#live-on").uncheck()
    store.append(trial("demo/Si", 1, 3.0))
    page.wait_for_timeout(500)
    assert page.locator("#cell-Si .value").inner_text() == "4.0"
    page.locator("#live-on").check()
    playwright.expect(page.locator("#cell-Si .value")).to_have_text("3.0")


def test_the_live_page_says_that_its_server_is_gone(browser, tmp_path):
    with TrialStore.open(tmp_path / "trials.sqlite") as store:
        begin(store, "Si")
        source = LiveSource(store, standing_of(store), "Live", every=0.1)
        with served(source) as server:
            context = browser.new_context()
            page = context.new_page()
            page.goto(server.url)
            page.locator("#cell-Si").click()
            assert "No result. running, no trial yet" in page.locator("#detail").inner_text()
            page.keyboard.press("Escape")
        playwright.expect(page.locator("#live")).to_contain_text("The server does not answer.")
        context.close()


def test_bands_are_drawn_and_read_out(visit):
    page = visit(suffix="#Si")
    figure = page.locator(".charts.wide figure").first
    assert figure.locator(".plot path.line").count() == 3
    # A break lifts the pen: two pieces a band, of which one lies in the core and is not drawn.
    assert figure.locator(".plot path.line.dft").get_attribute("d").count("M") == 4
    slider = figure.locator("[role=slider]")
    slider.focus()
    page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext") == (
        "at Γ;  DFT −8.00, 0.50;  this fit −7.70, 0.80;  published PTBP −7.40, 1.10"
    )
    page.keyboard.press("Escape")
    page.goto(page.url.partition("#")[0] + "#Al")
    page.reload()
    playwright.expect(page.locator("#detail")).to_contain_text("No bands: the reference data of this fit have none")


def test_the_table_as_an_image(visit, tmp_path):
    page = visit()
    page.check("input[value=difference]")
    with page.expect_download() as download:
        page.locator("#png-table").click()
    assert download.value.suggested_filename == "table-mean_abs_dV-difference.png"
    download.value.save_as(tmp_path / "table.png")
    assert (tmp_path / "table.png").read_bytes()[:4] == b"\x89PNG"


def test_what_stands_at_the_top(visit):
    tiles = visit(390).locator("#tiles li")
    assert tiles.count() == 5
    assert "0.25 of PTBP's; better on 2 of 2" in tiles.first.inner_text()
    assert "crystals that implode" in tiles.last.inner_text()
