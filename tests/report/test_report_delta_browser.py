"""Delta models in a browser: headless Chromium through Playwright; skipped, visibly, where either is missing."""

from __future__ import annotations

import pytest

from dftbparam.report.html import collect_results, render_page
from tests.report.support.delta_files import write_delta
from tests.report.support.run_folders import write_run


@pytest.fixture
def visit(browser, tmp_path):
    """Open the page of some folders; every request but the page's own and every error fails the test."""
    contexts, troubles = [], []

    def go(*folders, width=1600, **options):
        (tmp_path / "page.html").write_text(render_page(collect_results(folders)), encoding="utf-8")
        address = (tmp_path / "page.html").as_uri()
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
        page.goto(address)
        return page

    yield go
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.mark.parametrize("width", [390, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_of_models_alone_has_no_empty_table(visit, tmp_path, width, scheme):
    page = visit(write_delta(tmp_path / "silicon.delta"), width=width, color_scheme=scheme)
    assert page.locator("#grid").is_hidden()
    assert page.locator("#deltas figure").count() == 3
    assert page.locator("#intro").inner_text().startswith("1 delta model.")
    assert "For r2SCAN/HSE a model without it is better" in page.locator("#deltas .alert").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_models_stand_below_the_table_of_runs(visit, tmp_path):
    write_run(tmp_path / "set" / "Si", "Si")
    write_delta(tmp_path / "set" / "silicon.delta")
    page = visit(tmp_path / "set")
    assert page.locator("#grid").is_visible()
    assert page.locator("#deltas").is_visible()
    assert not visit(tmp_path / "set" / "Si").locator("#deltas").is_visible()


def test_curves_by_keyboard_and_without_colour(visit, tmp_path):
    page = visit(write_delta(tmp_path / "silicon.delta"))
    learning, parity, calibration = (page.locator("#deltas [role=slider]").nth(k) for k in range(3))
    for curve, key, words in (
        (learning, "Home", "structures 6;  delta 0.2;  without DFTB 0.9"),
        (parity, "End", "Si bcc: reference 0.4;  predicted = reference 0.4;  predicted, with error bar 0.41 ± 0.02"),
        (calibration, "Home", "should 0.05;  honest error bars 0.05;  this model 0"),
    ):
        curve.focus()
        page.keyboard.press(key)
        assert curve.get_attribute("aria-valuetext") == words
    dashes = page.evaluate(
        "[...document.querySelectorAll('#deltas figure:first-child .line')]"
        ".map((line) => getComputedStyle(line).strokeDasharray)"
    )
    assert len(set(dashes)) == 2


def test_files_of_a_curve(visit, tmp_path):
    page = visit(write_delta(tmp_path / "silicon.delta"))
    for kind, name in (("CSV", "delta-silicon-PBE-parity.csv"), ("PNG", "delta-silicon-PBE-parity.png")):
        with page.expect_download() as download:
            page.get_by_label(f"{kind} of Parity, PBE").click()
        assert download.value.suggested_filename == name
        content = download.value.path().read_bytes()
        if kind == "CSV":
            head, *rows = content.decode().splitlines()
            assert head.endswith(",error bar: predicted (eV/atom)")
            assert rows[0] == "-0.1,-0.1,-0.12,0.04"
        else:
            assert content.startswith(b"\x89PNG")
