"""A log, a rule and the hits that are false: the smallest exclusion, and the proof that it costs no true hit.

The proof is execution: the rule is built with the exclusion, runs on the log and on its own events, and on
every platform each hit that was not named false is still there. What cannot be told apart is refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from detection_pack.build.dist import make, rule_entries
from detection_pack.build.dist import write as write_dist
from detection_pack.model.documents import Document
from detection_pack.model.filters import Filter
from detection_pack.model.findings import Finding, PackError, printable
from detection_pack.model.pack import Pack
from detection_pack.model.rule import Rule
from detection_pack.model.site_lists import ListFilter, load_list_filters, load_site, without_listed
from detection_pack.replay.answer import FoundHit, found_hits
from detection_pack.replay.log_replay import Told, executed
from detection_pack.replay.reading import Reading
from detection_pack.replay.verdict import all_cases, execute, judge
from detection_pack.tune.candidates import Candidate, candidates, value_of

#: Exclusions that are tried at most: each is a build and a run on every platform.
MOST_TRIED = 8
#: Records that are named in a message.
NAMED = 3


@dataclass(frozen=True)
class Wanted:
    """``false``: ids of records that the rule should not have hit; of a correlation values of its groups."""

    rule: Rule
    platforms: Sequence[str]
    false: Sequence[str]


@dataclass(frozen=True)
class Proposal:
    """What to write, ``file`` the text of a site's lists or of a Sigma filter, and what was proven of it:
    how many hits are gone and stay, on which platforms, and how many of the rule's events still match."""

    kind: str
    rule: str
    file: str
    gone: int
    stay: int
    platforms: tuple[str, ...]
    events: int
    tried: int

    def text(self) -> str:
        what = "rows of a site's file (--site FILE)" if self.kind == "list" else "a Sigma filter"
        head = [
            f"# {what} for {self.rule}",
            f"# {self.gone} hits named as false are gone from this log, and {self.stay} others still fire on",
            f"# {', '.join(self.platforms)}; the {self.events} events of the rule that must match do.",
        ]
        return "\n".join([*map(printable, head), self.file])


class NotTold(PackError):
    """Hits that are false and cannot be told from the others."""


def tuned(pack: Pack, dist: Path, wanted: Wanted, reading: Reading, folder: Path, told: Told) -> Proposal:
    """The smallest exclusion that was proven; ``folder`` holds the builds. Raises `NotTold` with the reason
    where there is none, `PackError` for what cannot be run."""
    rule = wanted.rule
    before = _hits(pack, dist, wanted, reading, told)
    false, true = _named(rule, before, wanted.false)
    lists = load_list_filters(pack.root)
    tried, staying, said = 0, dict[str, None](), ""
    for document, some in _proposals(pack, wanted, reading, folder, lists, false, true, told):
        tried += 1
        if tried > MOST_TRIED:
            break
        shown, filters = _filters(some, document, lists, folder)
        built = make(replace(pack, rules=(without_listed(rule, filters),)), keep_going=True)
        if built.refused:
            said = said or built.refused[0].what
            continue
        made = folder / f"tried{tried}"
        write_dist(built, made)
        after = _hits(pack, made, wanted, reading, told)
        named = {_key(hit)[:-1] for hit in false}
        staying |= dict.fromkeys(name for hit in after if _key(hit)[:-1] in named for name in hit.platforms)
        events = _matching_events(pack, rule, made, wanted.platforms)
        if events is not None and _keys(true) == _keys(after):
            kind = "filter" if some.within is None else "list"
            ran = tuple(dict.fromkeys(name for hit in before for name in hit.platforms))
            return Proposal(kind, rule.name, shown, len(false), len(true), ran, events, tried)
    what = (
        f"no exclusion of {len(false)} hits of {rule.name} was found that leaves all of the other {len(true)}"
    )
    todo = "name fewer hits, or write a Sigma filter by hand"
    if tried:
        number = min(tried, MOST_TRIED)
        what += (
            f"; {number} were tried, and each lost a true hit or an event of the rule, or left a false hit"
        )
        what += f" on {', '.join(staying)}" if staying else ""
        what += f" ({said})" if said else ""
    else:
        what += f": {_why(rule, pack, reading, false, true)}"
    raise NotTold([Finding("--benign", 1, what, todo)])


def _hits(pack: Pack, dist: Path, wanted: Wanted, reading: Reading, told: Told) -> list[FoundHit]:
    entries = [entry for entry in rule_entries(dist) if entry.name == wanted.rule.name]
    hits, refused = executed(dist, entries, wanted.platforms, reading, pack, told)
    if refused:
        (name, _), why = next(iter(refused.items()))
        raise PackError.at(
            dist, 1, f"{name} cannot run {wanted.rule.name}: {why}", "leave it out: --platform"
        )
    return list(found_hits(wanted.rule.name, hits))


def _key(hit: FoundHit) -> Any:
    group = None if hit.group is None else tuple(sorted((k, v.lower()) for k, v in hit.group.items()))
    return hit.event, group, hit.window, hit.value if group else None, frozenset(hit.platforms)


def _keys(hits: Iterable[FoundHit]) -> set[Any]:
    return set(map(_key, hits))


def _named(rule: Rule, hits: Sequence[FoundHit], ids: Sequence[str]) -> tuple[list[FoundHit], list[FoundHit]]:
    """The hits that are named as false, and the others. Raises `PackError`."""
    folded = {one.lower() for one in ids}

    def names(hit: FoundHit) -> set[str]:
        if hit.group is None:
            return {str(hit.event).lower()}
        return {value.lower() for value in hit.group.values() if value}

    known = {name for hit in hits for name in names(hit)}
    if unknown := [one for one in ids if one.lower() not in known]:
        kind = "the id of a record" if rule.correlation is None else "a value of a group"
        what = f"{rule.name} has no hit that is called {', '.join(unknown[:NAMED])}"
        raise PackError.at("--benign", 1, what, f"name {kind}, as replay shows them")
    false = [hit for hit in hits if names(hit) & folded]
    return false, [hit for hit in hits if not names(hit) & folded]


def _proposals(
    pack: Pack,
    wanted: Wanted,
    reading: Reading,
    folder: Path,
    lists: Mapping[str, Sequence[ListFilter]],
    false: Sequence[FoundHit],
    true: Sequence[FoundHit],
    told: Told,
) -> Iterable[tuple[Document, Candidate]]:
    """Candidates with the rule whose records they leave out, the smallest first."""
    rule = wanted.rule
    if rule.correlation is None:
        records = _records(pack, rule, reading, [*false, *true])
        these = [records[hit.event] for hit in false if hit.event in records]
        others = [records[hit.event] for hit in true if hit.event in records]
        for one in candidates(rule, rule.main, lists, these, others):
            yield rule.main, one
        return
    groups = [{value.lower() for value in (hit.group or {}).values() if value} for hit in false]
    kept = [{value.lower() for value in (hit.group or {}).values() if value} for hit in true]
    for document in rule.documents:
        if "detection" not in document.data:
            continue
        plain = _plain(rule, document, folder)
        base = make(replace(pack, rules=(plain,)), keep_going=True)
        made = folder / f"base_{plain.name}"
        write_dist(base, made)
        found = _hits(pack, made, replace(wanted, rule=plain), reading, told)
        records = _records(pack, plain, reading, found)
        fields = rule.correlation.group_by
        texts = [
            (record, {value.lower() for field in fields if (value := value_of(record, field))})
            for record in records.values()
        ]
        these = [record for record, own in texts if any(own and own <= group for group in groups)]
        others = [record for record, own in texts if any(own and own <= group for group in kept)]
        if these:
            for one in candidates(rule, document, lists, these, others):
                yield document, one


def _plain(rule: Rule, document: Document, folder: Path) -> Rule:
    """One of the rules that a correlation correlates, as a rule of its own."""
    name = str(document.data["name"])
    data = {**document.data, "alert": {"type": name, "detail": name}}
    alone = dataclasses.replace(document, data=data)
    return Rule(name, rule.path, rule.tier, (alone,), alone, rule.text)


def _records(pack: Pack, rule: Rule, reading: Reading, hits: Iterable[FoundHit]) -> dict[str, Any]:
    ids = [hit.event for hit in hits if hit.event is not None]
    found: dict[str, Any] = {}
    for source in reading.records.sources:
        found |= {name: one.record for name, one in reading.located(source.name, ids).items()}
    return found


def _filters(
    some: Candidate, document: Document, lists: Mapping[str, Sequence[ListFilter]], folder: Path
) -> tuple[str, Sequence[tuple[str, Filter]]]:
    """A candidate as the text to write, and as filters."""
    if some.within is None:
        made = some.filter(document)
        return yaml.safe_dump(made, sort_keys=False, allow_unicode=False), [("", some.as_filter(document))]
    path = folder / "site.yml"
    # As it is shown, so that what is proven is what is written.
    text = yaml.safe_dump(json.loads(json.dumps(some.site())), sort_keys=False, allow_unicode=False)
    path.write_text(text, encoding="utf-8")
    return text, load_site(path, lists).filters


def _matching_events(pack: Pack, rule: Rule, dist: Path, platforms: Sequence[str]) -> int | None:
    """How many cases of the rule must match and do, by its own events; None where one does not any more."""
    cases = {
        name: [case for case in listed if case.matches]
        for name, listed in all_cases(pack.root, [rule], pack.sources).items()
    }
    executed_cases = execute(dist, cases, platforms, pack.sources.values())
    if any(verdict.faults for verdict in judge(dist, cases, executed_cases)):
        return None
    return len(cases[rule.name])


def _why(
    rule: Rule, pack: Pack, reading: Reading, false: Sequence[FoundHit], true: Sequence[FoundHit]
) -> str:
    """Which true hit looks like which false one, in all that an alert shows."""
    for hit in false:
        for other in true:
            same = [name for name, value in hit.columns.items() if value and other.columns.get(name) == value]
            shown = [name for name, value in hit.columns.items() if value]
            if same == shown:
                return f"{_called(hit)} and {_called(other)} are the same in {', '.join(same)}"
    return "their records have no values in common that the others lack"


def _called(hit: FoundHit) -> str:
    return str(hit.event) if hit.group is None else ", ".join(hit.group.values())
