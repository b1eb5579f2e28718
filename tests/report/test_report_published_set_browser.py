"""The page of a published set in headless Chromium; skipped, visibly, where Playwright or Chromium is missing."""

from __future__ import annotations

import csv

import pytest

from dftbparam.report.html import collect_results, render_page
from tests.report.support.run_folders import write_set

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install playwright")


@pytest.fixture
def visit(browser, tmp_path):
    folder = write_set(tmp_path / "dftbparam-x", {"Pu": ["two atoms fall into each other [dimer]"]}, "Ti", "O")
    (tmp_path / "page.html").write_text(render_page(collect_results([folder])), encoding="utf-8")
    contexts, troubles = [], []

    def go(width=1600):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.goto((tmp_path / "page.html").as_uri())
        return page

    yield go
    for context in contexts:
        context.close()
    assert troubles == []


def saved(page, locator, path):
    with page.expect_download() as download:
        locator.click()
    download.value.save_as(path)
    with path.open(encoding="utf-8") as file:
        return list(csv.reader(file))


def test_an_element_left_out_is_hatched_counted_apart_and_tells_why(visit):
    page = visit()
    assert "2 of 96 elements have a result; 1 is left out of the set (Pu)" in page.locator("#intro").inner_text()
    cell = page.locator("#cell-Pu")
    assert cell.locator(".value").inner_text() == "out"
    image = "(cell => getComputedStyle(cell).backgroundImage)(document.getElementById('cell-%s'))"
    assert page.evaluate(image % "Pu").startswith("repeating-linear-gradient")
    assert page.evaluate(image % "Ti") == page.evaluate(image % "Fe") == "none"
    assert "left out of the set" in page.locator("#legend").inner_text()
    assert "two atoms fall" in cell.get_attribute("aria-label")
    assert page.locator("#list tbody tr").count() == 2
    cell.click()
    text = page.locator("#detail").inner_text()
    assert "Left out of the set. The gate: two atoms fall into each other [dimer]" in text
    assert "it counts in no mean" in text
    assert page.locator("#detail figure").count() == 6


def test_own_crystals_and_compounds_stand_apart_and_the_page_says_so(visit):
    page = visit()
    heads = page.locator("#tiles h3").all_inner_texts()
    assert heads[0] == "own crystals: mean |ΔV|, %"
    assert "compounds: mean |ΔV|, %" in heads
    assert "compounds: mean |ΔE| of formation, eV/atom" in heads
    assert "2.5" in page.locator("#tiles li").first.inner_text()
    said = page.locator("#headline-text").inner_text()
    assert "the mean over its own crystals or over its compounds, never over both together" in said
    assert "Elements left out of the set (1) count nowhere." in said
    assert "mean |ΔV|, %" not in page.locator("#figure option").all_inner_texts()


def test_on_a_phone_the_card_fits_and_a_wide_table_says_that_it_scrolls(visit):
    page = visit(390)
    page.locator("#cell-Ti").click()
    card = page.get_by_role("region", name="Report card")
    assert card.evaluate("node => node.scrollWidth <= node.clientWidth")
    crystals = page.get_by_role("region", name="Crystals")
    playwright.expect(crystals).to_have_class("scroll more")
    assert "scroll sideways" in crystals.evaluate("node => getComputedStyle(node, '::before').content")
    assert "gradient" in crystals.evaluate("node => getComputedStyle(node).maskImage")
    crystals.evaluate("node => { node.scrollLeft = node.scrollWidth; }")
    playwright.expect(crystals).to_have_class("scroll more end")
    assert crystals.evaluate("node => getComputedStyle(node).maskImage") == "none"


def test_csv_has_rounded_numbers_and_names_to_read(visit, tmp_path):
    page = visit()
    rows = saved(page, page.locator("#csv-all"), tmp_path / "elements.csv")
    assert rows[0][:5] == ["number", "symbol", "name", "result", "own crystals: mean abs. dV (%) [this fit]"]
    assert rows[0][6] == "own crystals: mean abs. dV (%) [difference]"
    assert "".join(rows[0]).isascii()
    assert [row[3] for row in rows if row[1] in ("Ti", "Pu", "Fe")] == ["yes", "no", "left out"]
    (titanium,) = (row for row in rows if row[1] == "Ti")
    assert titanium[4:7] == ["2", "8.04", "-6.04"]
    assert max(len(cell) for row in rows[1:] for cell in row[4:-1]) <= 9
    page.locator("#cell-Ti").click()
    curve = saved(page, page.get_by_role("button", name="CSV of sc"), tmp_path / "sc.csv")
    assert curve[0] == [
        "volume (A3/atom)", "DFT: energy (eV/atom)", "this fit: energy (eV/atom)", "published PTBP: energy (eV/atom)",
    ]  # fmt: skip
