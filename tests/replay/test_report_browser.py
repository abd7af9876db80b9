"""The trap: a page that is right as text and wrong in a browser. A real one opens it, from a file."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, expect

from conftest import DIST
from detection_pack.replay.report_page import write_report
from judges import require
from support import browser as chromium
from support.browser import OpenedPage
from support.report_answers import HOSTILE, RULE, dist_with_query, hostile, large, ordinary

Opener = Callable[..., OpenedPage]


@pytest.fixture(scope="module")
def running() -> Iterator[Browser]:
    require(chromium.available())
    with chromium.started() as browser:
        yield browser


@pytest.fixture
def opened(running: Browser, tmp_path: Path) -> Iterator[Opener]:
    """Opens the page of an answer. At the end: nothing on any console, nothing asked of the network."""
    pages: list[OpenedPage] = []

    def open_page(
        answer: dict[str, Any],
        dist: Path = DIST,
        version: str = "1",
        scheme: Literal["light", "dark"] = "light",
        width: int = 1360,
    ) -> OpenedPage:
        path = tmp_path / f"report{len(pages)}.html"
        write_report(path, answer, dist, version)
        pages.append(OpenedPage(running, path, scheme, width))
        return pages[-1]

    yield open_page
    said = [line for one in pages for line in one.said]
    asked = [url for one in pages for url in one.asked if not url.startswith("file:")]
    for one in pages:
        one.context.close()
    assert not said and not asked


ALICE, BOB, CAROL = "alice@contoso.example", "bob@contoso.example", "carol@contoso.example"


def test_columns_sort_both_ways(opened: Opener) -> None:
    made = opened(ordinary())
    by_time = [made.column(1), made.column(4)]
    assert by_time[0][-1] == "–" and made.column(4)[:3] == ["Bob@contoso.example", ALICE, CAROL]
    heads = made.page.locator("#table thead th")
    heads.get_by_text("User").click()
    assert [one.lower() for one in made.column(4)] == [ALICE, ALICE, BOB, BOB, CAROL, CAROL]
    assert heads.nth(4).get_attribute("aria-sort") == "ascending"
    heads.get_by_text("User").click()
    assert [one.lower() for one in made.column(4)] == [CAROL, CAROL, BOB, BOB, ALICE, ALICE]
    assert heads.nth(4).get_attribute("aria-sort") == "descending"
    heads.get_by_text("Rule").click()
    assert made.column(2) == sorted(made.column(2)) and heads.nth(4).get_attribute("aria-sort") is None
    heads.get_by_text("Time").click()
    assert made.column(1) == by_time[0]


def test_filters_narrow_the_hits(opened: Opener) -> None:
    made = opened(ordinary())
    page = made.page
    page.select_option("#f-rule", label=RULE)
    assert set(made.column(2)) == {RULE} and page.inner_text("#count") == "4 of 6 hits"
    page.select_option("#f-platform", label="Microsoft Sentinel")
    assert page.inner_text("#count") == "3 of 6 hits"
    page.fill("#f-user", "CAROL")
    made.says("#count", "2 of 6 hits")
    page.fill("#f-search", "198.51.100.7")
    made.says("#count", "1 of 6 hits")
    page.fill("#f-search", "nowhere")
    made.says("#count", "0 of 6 hits")
    assert page.inner_text("#table tbody") == "No hit fits these filters."
    page.click("#f-reset")
    made.says("#count", "6 hits")
    for text, n in (("e2", 1), ("bulk_cross", 2), ("2026-03-12", 1)):
        page.fill("#f-search", text)
        made.says("#count", f"{n} of 6 hits")
        assert len(made.column(1)) == n
        page.click("#f-reset")
        made.says("#count", "6 hits")


def test_figures_lead_to_their_hits(opened: Opener) -> None:
    made = opened(ordinary())
    made.page.get_by_role("button", name="Show the 2 hits of bulk_cross_mailbox_access").click()
    assert set(made.column(2)) == {"bulk_cross_mailbox_access"}
    made.page.locator("#top button", has_text=CAROL).click()
    assert made.column(4) == [CAROL, CAROL]


def test_it_goes_by_keyboard_alone(opened: Opener) -> None:
    made = opened(ordinary())
    page = made.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the hits"
    page.keyboard.press("/")
    page.keyboard.type("e3/")
    assert page.input_value("#f-search") == "e3/"
    page.keyboard.press("Backspace")
    made.says("#count", "1 of 6 hits")
    page.locator("#table .more").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.locator("#table .more").get_attribute("aria-expanded") == "true"
    assert "Bob@contoso.example" in page.inner_text("#table .all")
    page.keyboard.press("Enter")
    assert page.locator("#table .all").count() == 0
    # Nothing that can be used is out of the keyboard's reach, and all of it has a name.
    unnamed = page.evaluate(
        """[...document.querySelectorAll('button, input, select, summary, a')].filter((one) => {
          const name = one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length;
          return one.tabIndex < 0 || !name;
        }).length"""
    )
    assert unnamed == 0


def test_the_queries_are_copied_as_dist_has_them(opened: Opener) -> None:
    made = opened(ordinary())
    for button in made.page.locator("[data-query]").all():
        path = (button.get_attribute("aria-label") or "").removeprefix("Copy ")
        button.evaluate("one => one.closest('details').open = true")
        button.click()
        expect(button).to_have_text("Copied")
        assert made.clipboard() == (DIST / path).read_bytes().decode()


def test_the_copied_csv_computes_nothing(opened: Opener) -> None:
    made = opened(ordinary())
    made.page.click("#copy-csv")
    made.says("#said", "Copied 6 hits.")
    head, *rows = csv.reader(io.StringIO(made.clipboard(), newline=""))
    assert len(rows) == 6 and head[:3] == ["rule", "time", "UserId"] and head[-1] == "platforms"
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell.lstrip()[:1] in ("=", "+", "-", "@", "\uff0b")]
    assert {"a;'=1", "'=HYPERLINK(1)", "'-2+3", "'\uff0b1"} <= set(cells)


def test_planted_scripts_do_not_run(opened: Opener, tmp_path: Path) -> None:
    answer = hostile()
    planted = "\n".join(HOSTILE).replace("\ud800", "").replace("\udfff", "")
    dist = dist_with_query(tmp_path / "dist", "planted", planted)
    answer["rules"][0] |= {"rule": "planted"}
    made = opened(answer, dist, HOSTILE[1])
    page = made.page
    page.select_option("#f-rule", index=2)
    page.click("#f-reset")
    click_all = "(where) => document.querySelectorAll(where).forEach((one) => one.click())"
    for where in ("#table .more", "#top button, #rules button"):
        page.evaluate(click_all, where)
    page.click("#f-reset")
    made.says("#count", f"{len(HOSTILE) - 1} hits")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.evaluate(
        """for (const one of document.querySelectorAll('*')) {
          for (const name of ['mouseover', 'focus', 'load', 'error']) one.dispatchEvent(new Event(name));
        }"""
    )
    page.click("[data-query]")
    page.click("#copy-csv")
    assert page.evaluate("window.planted") is None
    assert page.evaluate("document.querySelectorAll('script, style').length") == 3
    assert page.evaluate("document.querySelectorAll('img, iframe, object, embed, base').length") == 0
    assert "<script>window.planted=1</script>" in page.inner_text("#queries pre")


def test_the_policy_stops_a_script_that_gets_in(running: Browser, tmp_path: Path) -> None:
    """Were something not escaped after all: no script, no style, no request, no markup out of text."""
    path = tmp_path / "report.html"
    write_report(path, ordinary(), DIST, "1")
    text = path.read_text(encoding="utf-8")
    bad = "<script>window.planted=1</script><img src=https://planted.example/ onerror='window.planted=1'>"
    path.write_text(text.replace("<main>", f"{bad}<main>"), encoding="utf-8")
    made = OpenedPage(running, path)
    refused = made.page.evaluate(
        "(() => { try { document.body.innerHTML = '<b>x</b>'; return false; } catch { return true; } })()"
    )
    assert refused and made.page.evaluate("window.planted") is None
    assert len([line for line in made.said if "Content Security Policy" in line]) >= 2
    made.context.close()


def test_a_hundred_thousand_hits_are_usable_within_three_seconds(running: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, large(100_000), DIST, "1")
    began = time.monotonic()
    made = OpenedPage(running, path)
    made.says("#count", "100,000 hits")
    made.page.select_option("#f-rule", label=RULE)
    usable = time.monotonic() - began
    began = time.monotonic()
    made.page.fill("#f-search", "box 99999")
    made.says("#count", "1 of 100,000 hits")
    searched = time.monotonic() - began
    made.page.fill("#f-search", "")
    made.says("#count", "100,000 hits")
    began = time.monotonic()
    made.page.locator("#table thead th").get_by_text("What").click()
    expect(made.page.locator("[aria-sort]")).to_have_attribute("data-key", "f5")
    sorted_in = time.monotonic() - began
    print(
        f"open {usable:.2f} s, search {searched:.2f} s, sort {sorted_in:.2f} s, {path.stat().st_size} bytes"
    )
    made.page.click("#p-last")
    assert made.page.inner_text("#p-now") == "99,901–100,000" and not made.said
    made.context.close()
    assert usable < 3 and searched < 3 and sorted_in < 3


def _contrast(made: OpenedPage) -> list[Any]:
    """The texts whose colour is less than 4.5 to 1 against what is behind them (WCAG 2.2, 1.4.3)."""
    found: list[Any] = made.page.evaluate(
        """() => {
          const rgb = (text) => text.match(/[0-9.]+/g).map(Number);
          const light = (c) => c.slice(0, 3).map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const behind = (one) => {
            for (let at = one; at; at = at.parentElement) {
              const c = rgb(getComputedStyle(at).backgroundColor);
              if (c.length === 3 || c[3] > 0) return c;
            }
            return [255, 255, 255];
          };
          const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), bad = [];
          while (texts.nextNode()) {
            const one = texts.currentNode.parentElement, style = getComputedStyle(one);
            if (!texts.currentNode.data.trim() || !one.getClientRects().length) continue;
            const ink = one instanceof SVGElement ? style.fill : style.color;
            const a = light(rgb(ink)), b = light(behind(one));
            const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            if (ratio < 4.5) bad.push([one.tagName, one.className, ratio]);
          }
          return bad;
        }"""
    )
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_apply_and_can_be_read(opened: Opener, scheme: Literal["light", "dark"]) -> None:
    made = opened(ordinary(), scheme=scheme)
    page = made.page
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colour == {"light": "rgb(246, 247, 249)", "dark": "rgb(15, 20, 27)"}[scheme]
    assert _contrast(made) == []


def test_print_leaves_the_controls_out_and_is_light(opened: Opener) -> None:
    made = opened(ordinary(), scheme="dark")
    page = made.page
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not any(page.is_visible(one) for one in (".filters", ".pages", "header nav", "[data-query]"))
    assert page.is_visible("#table") and _contrast(made) == []


def test_paper_has_more_hits_than_a_page_of_the_screen(opened: Opener) -> None:
    made = opened(large(1500))
    assert len(made.column(1)) == 100
    made.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert len(made.column(1)) == 1000
    made.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert len(made.column(1)) == 100


@pytest.mark.parametrize("answer", [ordinary, hostile])
def test_a_narrow_window_scrolls_down_only(opened: Opener, answer: Callable[[], dict[str, Any]]) -> None:
    made = opened(answer(), width=360)
    assert made.page.evaluate("document.documentElement.scrollWidth") == 360
