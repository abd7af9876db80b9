"""The trap: text of a rule that becomes markup on a page or in a report on a pull request.

A title can close a table's cell, open a heading, a fence or an HTML comment, load an image, run a
`javascript:` link, or mention a person. A real renderer reads what is written: it must find the text and no
element of the text's own, in every place where text is put.
"""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from detection_pack.languages.markdown import (
    address,
    code,
    fence,
    link,
    paragraphs,
    strong,
    table,
    text,
    visible,
)

#: As GitHub reads a file: CommonMark with raw HTML, tables, strikethrough.
RENDERER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!-- swallowed",
    "</details></td></table>",
    "[click](javascript:alert(1))",
    "![pixel](https://example.com/p.png)",
    "[label]: https://example.com",
    "<javascript:alert(1)>",
    "<https://example.com>",
    "https://example.com www.example.com ftp://x WWW.example.com",
    "mail me@example.com and mailto:me@example.com",
    "@octocat #1 org/repo#1 GH-1",
    "| a | b |\n|---|---|\n| c | d |",
    "# heading\n## heading",
    "title\n=====\ntitle\n-----",
    "- item\n+ item\n* item\n1. item\n2) item",
    "> quote",
    "```\nfence\n```",
    "~~~\nfence\n~~~ ~~gone~~",
    "    indented\n\ttab",
    "`code` ``code`` `",
    "**bold** __bold__ *it* _it_ \\*",
    "a\\",
    "a  \nb\\\nc",
    "&lt;b&gt; &#60;b&#62; &amp; &copy;",
    "$x^2$ :smile: [^1] [x] ^sup^ ==mark==",
    "\u202eright to left\u202c zero\u200bwidth \ufeff",
    "nul \0 esc \x1b[31m bell \x07 line\u2028separator",
    "***", "---", "___", "* * *", "",
]  # fmt: skip
ANY = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.sampled_from("`*_[]()<>#!|~\\&;:@$^=+-.1 a\n\t/w")),
    st.lists(st.sampled_from(HOSTILE), max_size=4).map("\n".join),
)


def rendered(source: str) -> list[Token]:
    """Every token of the source, those within lines too."""
    return [t for token in RENDERER.parse(source) for t in (token, *(token.children or ()))]


def shown(source: str) -> str:
    """The text that a reader sees; a blank line between blocks."""
    return displayed(source).replace("\u200b", "").strip()


def displayed(source: str) -> str:
    """The characters of the page, those without a width too: what GitHub looks for mentions in."""
    return html.unescape(re.sub(r"<[^>]*>", "", RENDERER.render(source)))


#: A person, a team, an issue, an address of mail: GitHub links them, and tells the person, wherever a page
#: shows them outside code.
MENTION = re.compile(r"[@#][0-9A-Za-z]")


def test_renderer_would_find_each_of_these() -> None:
    """The judge itself: without the escape, the hostile texts are elements."""
    found = [any(t.type not in PLAIN for t in rendered(raw)) for raw in HOSTILE]
    assert sum(found) >= 20


PLAIN = {"paragraph_open", "paragraph_close", "inline", "text"}


@settings(max_examples=400, deadline=None)
@given(ANY)
@example("a@b.c")
def test_text_is_text_in_a_paragraph(value: str) -> None:
    source = text(value)
    assert {token.type for token in rendered(source)} <= PLAIN
    assert shown(source) == visible(value)
    # What GitHub makes of text that is no markup: addresses in the source, mentions in what it displays.
    assert not re.search(r"://|www\.|:[0-9A-Za-z]", source.replace("&#", ""), re.IGNORECASE)
    assert not MENTION.search(displayed(source))


@pytest.mark.parametrize("value", ["@octocat", "cc @octo-org/team", "me@example.com", "#1", "org/repo#1"])
def test_nobody_is_mentioned(value: str) -> None:
    assert MENTION.search(displayed(value)), "the judge sees it where nothing guards against it"
    for source in (text(value), strong(value), *paragraphs(value), table(("one",), [(text(value),)])):
        assert not MENTION.search(displayed(source)), source


@settings(max_examples=200, deadline=None)
@given(ANY, st.sampled_from(["# {}", "- {}", "1. {}", "x {} y", "> {}"]))
def test_text_is_text_in_every_place(value: str, place: str) -> None:
    ours = {token.type for token in rendered(place.format("x"))}
    assert {token.type for token in rendered(place.format(text(value)))} <= ours
    assert "\n" not in text(value)


@settings(max_examples=200, deadline=None)
@given(ANY)
def test_bold_is_bold_text(value: str) -> None:
    source = f"x {strong(value)}: y"
    assert {token.type for token in rendered(source)} <= PLAIN | {"strong_open", "strong_close"}
    assert shown(source) == f"x {visible(value)}: y"


@settings(max_examples=300, deadline=None)
@given(ANY, ANY)
def test_cells_stay_cells(first: str, second: str) -> None:
    source = table(("one", "two"), [(text(first), code(second)), (code(first), text(second))])
    tokens = rendered(source)
    assert [t.type for t in tokens].count("td_open") == 4 and [t.type for t in tokens].count("tr_open") == 3
    allowed = {"inline", "text", "code_inline"}
    assert not [t for t in tokens if not t.type.startswith(("table", "thead", "tbody", "tr", "th", "td")) and t.type not in allowed]  # fmt: skip  # noqa: E501


@settings(max_examples=300, deadline=None)
@given(ANY)
def test_code_is_one_span_that_shows_its_text(value: str) -> None:
    tokens = rendered(f"x {code(value)} y")
    spans = [t.content for t in tokens if t.type == "code_inline"]
    wanted = visible(value)
    if not wanted or "|" in wanted:
        assert spans == [] and shown(f"x {code(value)} y").split() == f"x {wanted} y".split()
    else:
        assert spans == [wanted]
    assert {t.type for t in tokens} <= PLAIN | {"code_inline"}


@settings(max_examples=300, deadline=None)
@given(ANY, st.sampled_from(["", "kusto", "diff"]))
def test_a_fence_holds_all_and_ends(value: str, language: str) -> None:
    tokens = RENDERER.parse(f"before\n\n{fence(value, language)}\n\nafter")
    assert [t.type for t in tokens if t.type != "inline"] == [
        "paragraph_open", "paragraph_close", "fence", "paragraph_open", "paragraph_close",
    ]  # fmt: skip
    held = next(t for t in tokens if t.type == "fence")
    assert held.info == language
    printed = value.replace("\t", "    ").removesuffix("\n").split("\n")
    assert [visible_line(line) for line in printed] == held.content.removesuffix("\n").split("\n")


def visible_line(line: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


@settings(max_examples=200, deadline=None)
@given(ANY)
def test_paragraphs_are_the_paragraphs(value: str) -> None:
    assert {t.type for t in rendered("\n\n".join(paragraphs(value)))} <= PLAIN


@pytest.mark.parametrize(
    ("value", "linked"),
    [
        ("https://attack.mitre.org/techniques/T1114/002/", True),
        ("http://example.com/a?b=c&d=(e)#f", True),
        ("javascript:alert(1)", False),
        ("https://example.com/ <script>", False),
        ("https://example.com/>x", False),
        ("https://example.com/a|b", False),
        ("https://example.com/`a`", False),
        ("https://exa\u202emple.com", False),
        ("data:text/html,x", False),
        ("HTTPS://example.com\nhttps://b", False),
    ],
)
def test_only_web_addresses_are_links(value: str, linked: bool) -> None:
    links = [t for t in rendered(f"- {address(value)}") if t.type == "link_open"]
    assert [str(t.attrs["href"]) for t in links] == ([value] if linked else [])


@settings(max_examples=200, deadline=None)
@given(ANY.map(lambda tail: f"https://example.com/{tail}"))
def test_an_address_is_one_link_or_text(value: str) -> None:
    tokens = rendered(address(value))
    assert {t.type for t in tokens} <= PLAIN | {"link_open", "link_close"}
    for token in tokens:
        if token.type == "link_open":
            assert str(token.attrs["href"]).startswith("https://example.com/")


@pytest.mark.parametrize("target", ["javascript:alert(1)", "a b", "x)", "//host/x", "data:x", "", "http://x"])
def test_links_of_ours_lead_nowhere_else(target: str) -> None:
    with pytest.raises(ValueError, match="target of ours"):
        link("label", target)
