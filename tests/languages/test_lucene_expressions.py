"""The trap: an expression that RE2 reads otherwise than Lucene. A dot that stops at a line break, a letter
that also matches the Kelvin sign, a caret that is an anchor, a class with a character beyond 16 bits.

What the backend emits is held against Python's `re` and against Lucene itself, and so are random queries; a
long value takes no longer than its length.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from sigma.types import SigmaString

from conftest import DIST
from detection_pack.languages.lucene.lucene_index import Indices, as_documents, matches
from detection_pack.languages.lucene.lucene_re2 import Inexact, re2, re2_of, tree
from detection_pack.languages.regex.regex_tree import Node
from detection_pack.platforms.elastic.values import expressions
from detection_pack.platforms.terms import marked
from judges import lucene_judge, require
from support.lucene_evaluator import DOCUMENTS, MAPPING, NODES, Tree, python_of, slashed, trees, written
from support.rule_sample import sample

SEED = 20260311
EXPRESSIONS, STRINGS_EACH = [100, pytest.param(300, marks=pytest.mark.campaign)], 60
LETTERS = "aAbBkKzZ09 -_./\\\"'#&<>~@^$|()[]{}*+?:;!="
LETTERS += "\n\t\0\u00e9\u00c9\u0130\u0131\u017f\u212a\u0416\u4e00\u2028\U0001f600"
WORDS = (
    "curl/",
    "Search-Mailbox",
    "kKi\u0130",
    "a b",
    ".exe",
    "\\x\\",
    "\u212a",
    "\u00e9t\u00e9",
    "<1-9>",
    "a\nb",
)
BODY = {"mappings": {"properties": {"w": {"type": "wildcard"}, "k": {"type": "keyword"}}}}


def texts(chance: random.Random) -> Iterator[str]:
    while True:
        if chance.random() < 0.3:
            yield chance.choice(WORDS)
        yield "".join(chance.choice(LETTERS) for _ in range(chance.randint(1, 7)))


def sigma(text: str) -> str:
    return re.sub(r"([\\*?])", r"\\\1", text)


def near(text: str, chance: random.Random) -> str:
    """The text, or one that is almost it, among others or alone."""
    at = chance.randrange(len(text))
    changed = chance.choice(
        [
            text,
            text.swapcase(),
            text[:at] + chance.choice(LETTERS) + text[at + 1 :],
            text[:at] + text[at + 1 :],
            text[:at] + chance.choice(LETTERS) + text[at:],
        ]
    )
    return (
        chance.choice(["", "", " ", "x", "\n", "-", "\u0416"])
        + changed
        + chance.choice(["", "", " ", "x", "\n"])
    )


@pytest.fixture(scope="module", params=EXPRESSIONS)
def emitted(request: pytest.FixtureRequest) -> list[tuple[Node, list[str]]]:
    """Trees of the backend's expressions, and strings that they find or just do not."""
    chance = random.Random(SEED)
    made = texts(chance)
    found: list[tuple[Node, list[str]]] = []
    while len(found) < request.param:
        listed = [next(made) for _ in range(chance.randint(1, 4))]
        form = chance.choice(["{}", "*{}*", "{}*", "*{}", "*{}?{}*", "{}*{}"])
        values = [SigmaString(form.format(*(sigma(t) for t in (text, listed[0])))) for text in listed]
        for node in expressions("f", [marked(v) for v in values] if chance.random() < 0.5 else values):
            strings = [near(chance.choice(listed), chance) for _ in range(STRINGS_EACH)]
            found.append((node, [text for text in strings if text]))
    return found[: request.param]


def test_emitted_expressions_match_what_python_says(emitted: list[tuple[Node, list[str]]]) -> None:
    strings = [text for _, own in emitted for text in own]
    assert len(strings) > 57 * len(emitted)
    others = random.Random(SEED).sample(range(len(strings)), 150)
    hits = start = 0
    with Indices(as_documents({"w": text} for text in strings), BODY) as held:
        for node, own in emitted:
            found = held.search(f"w:{slashed(node)}")
            pattern = re.compile(python_of(node), re.DOTALL)
            for at in [*range(start, start + len(own)), *others]:
                assert (pattern.fullmatch(strings[at]) is not None) == (str(at) in found), (strings[at], node)
            start += len(own)
            hits += len(found)
    assert hits > 17 * len(emitted)


def test_emitted_expressions_match_what_lucene_says(emitted: list[tuple[Node, list[str]]]) -> None:
    require(lucene_judge.available())
    strings = list(dict.fromkeys(text for _, own in emitted for text in own[:8]))
    queries = {str(n): f"w:{slashed(node)}" for n, (node, _) in enumerate(emitted)}
    for path in (DIST / "elastic" / "queries").glob("*.lucene"):
        if len(emitted) < 300 and path.stem not in sample():
            continue
        for n, pattern in enumerate(re.findall(r":/((?:\\.|[^/])*)/", path.read_text(encoding="utf-8"))):
            queries[f"{path.stem} {n}"] = f"w:/{pattern}/"
    judged = lucene_judge.execute(queries, {str(n): {"w": [text]} for n, text in enumerate(strings)})
    with Indices(as_documents({"w": text} for text in strings), BODY) as held:
        for name, query in queries.items():
            assert held.search(query) == judged[name], query


def test_random_queries_find_what_lucene_finds() -> None:
    """Boolean clauses, terms, wildcards and expressions on fields without a limit."""
    require(lucene_judge.available())
    queries: list[Tree] = []
    documents: list[dict[str, list[str]]] = []

    @settings(
        max_examples=300,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(trees(("m", "w", "unmapped")), DOCUMENTS)
    def draw(query: Tree, document: dict[str, list[str]]) -> None:
        queries.append(query)
        documents.append({name: values for name, values in document.items() if name in ("m", "w")})

    draw()
    asked = {str(n): written(query) for n, query in enumerate(queries)}
    judged = lucene_judge.execute(asked, {str(n): document for n, document in enumerate(documents)})
    with Indices(as_documents(documents), MAPPING) as held:
        found = {name: held.search(query) for name, query in asked.items()}
    assert [asked[name] for name in asked if found[name] != judged[name]] == []
    assert sum(0 < len(ids) < len(documents) for ids in found.values()) > 40


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(node=NODES)
def test_a_tree_is_read_back_as_it_was_written(node: Node) -> None:
    """Reader and writer of Lucene's syntax, through Python's: the two trees match the same strings."""
    text = slashed(node)[1:-1]
    if not text:
        return
    read, meant = re.compile(python_of(tree(text)), re.DOTALL), re.compile(python_of(node), re.DOTALL)
    chance = random.Random(text)
    for length in range(6):
        for _ in range(15):
            sample = "".join(chance.choice(LETTERS[:12] + text) for _ in range(length))
            assert (read.fullmatch(sample) is None) == (meant.fullmatch(sample) is None), (text, sample)


@pytest.mark.parametrize(
    ("pattern", "expression"),
    [
        ("k", "k"),
        (".*", ".*"),
        ("^a$", r"\x{5e}a\x{24}"),
        ("[^a]", "[^a]"),
        ("(a|b)+", "(?:a|b)+"),
        ("(ab)?c", "(?:ab)?c"),
        ("a{2}{3}", "(?:a{2,2}){3,3}"),
        ("'", r"\x{27}"),
        ("\U0001f600", r"\x{1f600}"),
        ("()", "(?:)"),
    ],
)
def test_expressions_in_re2(pattern: str, expression: str) -> None:
    assert re2_of(pattern) == expression


def test_a_repetition_that_re2_does_not_take_is_refused() -> None:
    """In ES|QL nothing else limits it."""
    with pytest.raises(Inexact, match="more than 1,000 steps"):
        re2(tree("(a{40}b){30}"))


def test_a_long_value_is_decided_as_fast_as_it_is_read() -> None:
    """4.6 s and more by an engine that tries each place anew."""
    query = (DIST / "elastic" / "queries" / "onprem_powershell_collection.lucene").read_text(encoding="utf-8")
    start, long = {"event.type": "start", "process.name": "powershell.exe"}, "x" * 400_000
    commands = [
        f"{long} new-mailboxexportrequest",
        f"New-MailboxExportRequest {long}",
        long,
        f"x{long}New-MailboxSearch",
    ]
    body = {
        "mappings": {
            "properties": {
                "event": {"properties": {"type": {"type": "keyword"}}},
                "process": {
                    "properties": {"command_line": {"type": "wildcard"}, "name": {"type": "keyword"}}
                },
            }
        }
    }
    documents = [{**start, "process.command_line": command} for command in commands]
    began = time.process_time()
    assert matches(query, documents, body) == [True, True, False, False]
    assert time.process_time() - began < 5
