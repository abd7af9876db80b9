"""The trap: a value that one platform reads as something else, or that its neighbour matches too.

Any text of Unicode, as the value of any operator on any kind of field: the event that holds it matches on
all three platforms, one that differs in one character does not. Many rules are built and executed at once,
because starting three engines takes longer than a query.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from detection_pack.build.dist import make, rule_entries, write
from detection_pack.model.event import Clock, Event, Hit
from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.record_time import parse_time
from detection_pack.model.rule_reader import load_rule
from support.engines import ENGINES
from support.sources import M365, PROCESS

TIME = "2026-03-10T12:00:00"
PROBES = [80, pytest.param(160, marks=pytest.mark.campaign)]


@dataclass(frozen=True)
class Target:
    """A field, the records that have it, and whether the rule says that ``|contains`` finds whole terms."""

    field: str
    kind: str
    whole_terms: bool = False


#: A keyword and a wildcard field of Elastic, pieces of words and whole terms, a derived field's neighbour.
TARGETS = (
    Target("UserKey", "m365"),
    Target("ClientInfoString", "m365", whole_terms=True),
    Target("Operation", "m365", whole_terms=True),
    Target("CommandLine", "process", whole_terms=True),
    Target("ClientInfoString", "m365"),
    Target("CommandLine", "process"),
    Target("ParentCommandLine", "process"),
    Target("OriginalFileName", "process"),
)


def sigma_text(text: str) -> str:
    """``text`` as a Sigma value without wildcards."""
    return re.sub(r"([\\*?])", r"\\\1", text)


def plainly(text: str) -> tuple[str, ...]:
    return (text,)


def in_base64(text: str) -> tuple[str, ...]:
    return (base64.b64encode(text.encode()).decode(),)


def at_any_offset(text: str) -> tuple[str, ...]:
    """What the text surely is inside base64, whatever stands before and after it: two bits of a character
    that it shares with a neighbour are not its own (Sigma's appendix on modifiers, base64offset)."""
    found = []
    for offset in range(3):
        data = text.encode()
        encoded = base64.b64encode(b"\0" * offset + data).decode().rstrip("=")
        whole = (offset + len(data)) * 8 // 6
        found.append(encoded[-(-offset * 8 // 6) : whole])
    return tuple(found)


@dataclass(frozen=True)
class Operator:
    """How a rule writes a value, how an event holds it, and whether letter case tells two texts apart."""

    modifiers: str
    written: Callable[[str], str] = sigma_text
    pieces: Callable[[str], tuple[str, ...]] = plainly
    open_left: bool = False
    open_right: bool = False
    cased: bool = False


OPERATORS = (
    Operator(""),
    Operator("|contains", open_left=True, open_right=True),
    Operator("|startswith", open_right=True),
    Operator("|endswith", open_left=True),
    Operator("|cased", cased=True),
    Operator("|contains|cased", open_left=True, open_right=True, cased=True),
    Operator("|startswith|cased", open_right=True, cased=True),
    Operator("|endswith|cased", open_left=True, cased=True),
    Operator("|re", re.escape, open_left=True, open_right=True, cased=True),
    Operator("|re", lambda text: f"^{re.escape(text)}$", cased=True),
    Operator("|base64|contains", pieces=in_base64, open_left=True, open_right=True),
    Operator("|base64offset|contains", pieces=at_any_offset, open_left=True, open_right=True),
    Operator("|windash", open_left=False),
)
#: Drawn more often than the others, because it has two meanings.
CONTAINS = OPERATORS[1]


@dataclass(frozen=True)
class Probe:
    """One rule with one value, the texts that it must find and those that it must not."""

    operator: Operator
    target: Target
    value: str
    match: tuple[str, ...]
    no_match: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        source = {"product": "m365"}
        if self.target.kind == "process":
            source = {"product": "windows", "category": "process_creation"}
        item = {self.target.field + self.operator.modifiers: self.operator.written(self.value)}
        key = {"whole_terms": True} if self.target.whole_terms else {}
        return {"title": "Probe", "logsource": source, "detection": {"s": item, "condition": "s"}, **key}

    def events(self, name: str) -> list[Event]:
        texts = [("+", t) for t in self.match] + [("-", t) for t in self.no_match]
        return [self._event(f"{name}:{sign}{n}", text) for n, (sign, text) in enumerate(texts)]

    def _event(self, identifier: str, text: str) -> Event:
        record: dict[str, Any] = {"Id": identifier, self.target.field: text}
        if self.target.kind == "process":
            return Event(identifier, PROCESS, {"UtcTime": TIME, **record})
        base = {"CreationTime": TIME, "Workload": "Exchange", "RecordType": 2, "Operation": "x"}
        return Event(identifier, M365, {**base, **record})


#: Plain text, what languages use for themselves, and the far ends of Unicode.
CHARACTERS = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from(list("aB1é\u0416 \t\n\r\0\\\"'`$|*?[]{}()<>/%&#@~^!=+-_.,:;")),
    st.sampled_from(
        list("\u200b\u200d\u202e\u2028\u2029\u0085\ufeff\u0301\u1160\uffff\ue000\U0001f600\U0010ffff")
    ),
)
ASCII = st.text(st.characters(codec="ascii"), min_size=1, max_size=12)
TEXTS = st.text(CHARACTERS, min_size=1, max_size=12)


def same_letter(a: str, b: str) -> bool:
    """Whether some platform may take the two for one letter in two cases (Unicode's simple folding, too)."""
    forms = [{c, c.lower(), c.upper(), c.casefold(), c.title()} for c in (a, b)]
    closed = [{g for f in s for g in (f, f.lower(), f.upper(), f.casefold())} for s in forms]
    return bool(closed[0] & closed[1])


def found_in(operator: Operator, value: str, text: str) -> bool:
    """Whether Sigma finds the value in the text, letter case aside."""
    text = text if operator.cased else text.casefold()
    return any(
        (operator.open_left or found.start() == 0)
        and (operator.open_right or found.start() + len(piece) == len(text))
        for piece in (p if operator.cased else p.casefold() for p in operator.pieces(value))
        for found in re.finditer(f"(?={re.escape(piece)})", text)
    )


def touched(value: str) -> list[str]:
    """The value with a letter or digit beside each end of it that is a letter or digit of ASCII."""
    ends = [c.isascii() and c.isalnum() for c in (value[0], value[-1])]
    return ["x" + value] * ends[0] + [value + "7"] * ends[1]


@st.composite
def probes(draw: st.DrawFn) -> Probe:
    operator = draw(st.sampled_from((*OPERATORS, *[CONTAINS] * 4)))
    target = draw(st.sampled_from(TARGETS))
    # What pySigma encodes wrongly is refused (tests/hostile).
    value = draw(ASCII if operator.pieces is at_any_offset else TEXTS)
    if operator.pieces is not plainly:
        assume(not re.search(r"[*?]", value))
    if operator.modifiers == "|windash":
        assume(not re.search(r"\B[-/]\b", value))
    position = draw(st.integers(0, len(value) - 1))
    other = draw(CHARACTERS.filter(lambda c: c != value[position]))
    changed = value[:position] + other + value[position + 1 :]
    dropped = value[:position] + value[position + 1 :]
    added = value[:position] + other + value[position:]
    # A blank is neither letter nor digit: between two of them the value stays a whole term.
    left, right = (" " if operator.open_left else ""), (" " if operator.open_right else "")
    plain = operator.pieces is plainly

    def held(text: str) -> list[str]:
        """The text as events hold it: alone, and among others."""
        return [text, left + text + right] if plain else list(in_base64(text))

    neighbours = [dropped, added]
    if operator.cased or not same_letter(other, value[position]):
        neighbours.append(changed)
    no_match = [
        text
        for neighbour in neighbours
        if neighbour and not _may_fold_alike(operator, value, neighbour)
        for text in held(neighbour)
        if not found_in(operator, value, text)
    ]
    match = held(value)
    if plain and not operator.cased and value.isascii():
        match += held(value.swapcase())
    if operator is CONTAINS:
        # A letter that touches the value's own: no whole term, and a piece of a word.
        (no_match if target.whole_terms else match).extend(touched(value))
    return Probe(operator, target, value, tuple(dict.fromkeys(match)), tuple(dict.fromkeys(no_match)))


def _may_fold_alike(operator: Operator, value: str, neighbour: str) -> bool:
    """Whether the two differ in letters alone that have no simple other case, such as ß and ss."""
    if operator.cased:
        return False
    return (
        unicodedata.normalize("NFKC", value).casefold() == unicodedata.normalize("NFKC", neighbour).casefold()
    )


def executed(
    folder: Path, pack: Pack, batch: Mapping[str, Probe]
) -> tuple[dict[str, list[Hit]], dict[str, str]]:
    """Build every probe's rule and execute it everywhere: its hits by name, and the refusals."""
    rules, unread = [], dict[str, str]()
    for name, probe in batch.items():
        path = folder / f"{name}.yml"
        path.write_text(yaml.safe_dump(probe.document(), allow_unicode=False), encoding="utf-8")
        try:
            rules.append(load_rule(path, "other", named_by_stem=True))
        except PackError as error:
            unread[name] = str(error)
    built = make(Pack(pack.root, pack.version, tuple(rules), pack.pipelines), keep_going=True)
    write(built, folder / "out")
    events = [event for name, probe in batch.items() for event in probe.events(name)]
    moment = parse_time(TIME)
    assert moment is not None
    clock = Clock(moment + timedelta(seconds=1), "1d")
    hits: dict[str, list[Hit]] = {name: [] for name in batch}
    for platform in PLATFORMS:
        for hit in ENGINES[platform](folder / "out", rule_entries(folder / "out"), events, clock):
            hits[hit.rule].append(hit)
    return hits, unread | {Path(finding.path).stem: str(finding) for finding in built.refused}


@pytest.fixture(scope="module", params=PROBES)
def drawn(request: pytest.FixtureRequest) -> dict[str, Probe]:
    """The same probes in every run, by the name of their rule."""
    found: list[Probe] = []

    @settings(
        max_examples=request.param,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(probes())
    def collect(probe: Probe) -> None:
        found.append(probe)

    collect()
    return {f"probe_{number}": probe for number, probe in enumerate(dict.fromkeys(found))}


@pytest.fixture(scope="module")
def outcome(
    drawn: dict[str, Probe], pack: Pack, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, list[Hit]], dict[str, str]]:
    return executed(tmp_path_factory.mktemp("probes"), pack, drawn)


def test_the_probes_are_many_and_of_every_kind(
    drawn: dict[str, Probe],
) -> None:
    built = list(drawn.values())
    assert len(built) >= 70
    assert {probe.operator for probe in built} == set(OPERATORS)
    assert {probe.target for probe in built} == set(TARGETS)
    contained = [probe for probe in built if probe.operator is CONTAINS]
    assert {probe.target.whole_terms for probe in contained if touched(probe.value)} == {True, False}
    assert sum(bool(probe.no_match) for probe in built) >= len(built) * 0.9
    assert any(ord(c) > 0xFFFF for probe in built for c in probe.value)
    assert any(unicodedata.category(c) == "Cc" for probe in built for c in probe.value)


def test_none_is_refused(outcome: tuple[dict[str, list[Hit]], dict[str, str]]) -> None:
    """No text is beyond a platform; what cannot be a text (half of a surrogate pair) cannot stand in YAML."""
    assert outcome[1] == {}


def test_its_own_event_matches_and_its_neighbour_does_not(
    drawn: dict[str, Probe], outcome: tuple[dict[str, list[Hit]], dict[str, str]]
) -> None:
    hits, _ = outcome
    wrong = []
    for name, probe in drawn.items():
        own = {event.id for event in probe.events(name)}
        wanted = {identifier for identifier in own if identifier.startswith(f"{name}:+")}
        assert {hit.platform for hit in hits[name]} == set(PLATFORMS)
        wrong += [
            f"{hit.artefact}: {probe.operator.modifiers} {probe.target.field} {probe.value!a}: "
            f"{sorted((hit.events & own) ^ wanted)} of {probe.match!a} {probe.no_match!a}"
            for hit in hits[name]
            if hit.events & own != wanted
        ]
    assert wrong == []
