"""The trap: a handbook that its authors alone can read: links that lead nowhere, a search that finds nothing,
a page that asks the network.

The site is built as CI builds it. Each link and anchor of the built pages is followed, whatever mkdocs said
of them; a page shows what GitHub shows of the same text; a browser opens it and searches.
"""

from __future__ import annotations

import functools
import http.server
import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt

from conftest import ROOT
from support.browser import available, started

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None and not os.environ.get("CI"), reason="mkdocs is not installed"
)
#: Tags that load what they name.
_LOADS = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}


class PageParts(HTMLParser):
    """The links, loads and anchors of a page, and what its article holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.counts = dict.fromkeys(("li", "table", "pre"), 0)
        self._inside = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        stated = {name: value or "" for name, value in attrs}
        self.anchors |= {stated[name] for name in ("id", "name") if name in stated}
        if tag == "a" and "href" in stated:
            self.links.append(stated["href"])
        relations = stated.get("rel", "")
        for name, value in stated.items():
            if (tag, name) in _LOADS and relations not in ("canonical", "prev", "next", "edit"):
                self.loads.append(value)
        self._inside += tag == "article"
        if self._inside and tag in self.counts:
            self.counts[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        self._inside -= tag == "article"


def build(config: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """The build of .ci/run; with --quiet it would count no warnings. A proxy that is not there stands in the
    way of every address."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(out)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | nowhere | {"NO_MKDOCS_2_WARNING": "1"},
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, PageParts]:
    return {path: PageParts(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}


def broken(site: Path, pages: dict[Path, PageParts]) -> list[str]:
    """Links and loads of the pages that lead nowhere within the site."""
    found = []
    for path, parts in pages.items():
        for link in (*parts.links, *parts.loads):
            split = urlsplit(link)
            if split.scheme or path.name == "404.html":
                continue
            target = path if not split.path else (path.parent / unquote(split.path)).resolve()
            target = target / "index.html" if target.is_dir() else target
            named = not split.fragment or split.fragment.startswith("__")
            if not target.is_file() or not target.is_relative_to(site):
                found.append(f"{path.relative_to(site)}: {link}")
            elif not named and target in pages and unquote(split.fragment) not in pages[target].anchors:
                found.append(f"{path.relative_to(site)}: {link} has no such anchor")
    return found


def test_every_link_and_anchor_is_there(site: Path, pages: dict[Path, PageParts]) -> None:
    assert len(pages) > 60
    assert broken(site, pages) == []


def test_every_page_of_docs_is_in_the_site(site: Path) -> None:
    written = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    there = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    named = {path.with_name("index") if path.name == "README" else path for path in written}
    assert named <= there


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[x](nowhere.md)", "nowhere.md"),
        ("[x](start/splunk.md#nothing)", "nothing"),
        ("[x](../dist/x)", "dist/x"),
    ],
)
def test_a_link_that_leads_nowhere_ends_the_build(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "docs" / "start").mkdir(parents=True)
    (tmp_path / "docs" / "start" / "splunk.md").write_text("# x\n", encoding="utf-8")
    (tmp_path / "docs" / "index.md").write_text(f"# x\n\n{text}\n", encoding="utf-8")
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:\n")[0]
    (tmp_path / "mkdocs.yml").write_text(
        config.replace("scripts/site_files.py", str(ROOT / "scripts" / "site_files.py")), encoding="utf-8"
    )
    done = build(tmp_path / "mkdocs.yml", tmp_path / "out")
    assert done.returncode != 0 and said in done.stderr


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, PageParts]) -> None:
    for path, parts in pages.items():
        assert [load for load in parts.loads if urlsplit(load).netloc] == [], path
    for sheet in site.rglob("*.css"):
        loaded = re.findall(r"(?:@import|url\()\s*[\"']?(https?:|//)", sheet.read_text(encoding="utf-8"))
        assert loaded == [], sheet


def test_a_page_has_what_github_shows(site: Path, pages: dict[Path, PageParts]) -> None:
    """Two dialects: what one takes for a list is a paragraph to the other where a blank line is missing."""
    markdown = MarkdownIt("commonmark").enable("table")
    for source in sorted((ROOT / "docs").rglob("*.md")):
        made = source.relative_to(ROOT / "docs").with_suffix(".html")
        page = pages[site / (made.with_name("index.html") if source.stem == "README" else made)]
        shown = PageParts("<article>" + markdown.render(source.read_text(encoding="utf-8")) + "</article>")
        assert page.counts == shown.counts, source


# ---- in a browser ------------------------------------------------------------------------------------------


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()


@pytest.mark.skipif(available() is not None and not os.environ.get("CI"), reason=str(available()))
def test_the_search_finds_a_rule_and_asks_nobody_else(served: str) -> None:
    with started() as browser:
        page = browser.new_page()
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{served}/index.html")
        page.fill("input.md-search__input", "mailbox_audit_disabled")
        first = page.locator(".md-search-result__item a.md-search-result__link").first
        first.wait_for(state="attached", timeout=20_000)
        links = page.locator(".md-search-result__item a.md-search-result__link").evaluate_all(
            "found => found.map(one => one.href)"
        )
        assert "/rules/mailbox_audit_disabled.html" in links[0]
        page.goto(links[0])
        assert page.locator("article h1").count() == 1
        assert said == []
        assert [url for url in asked if not url.startswith((served, "data:", "blob:"))] == []
