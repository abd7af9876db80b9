"""What changes for those who import the pack, from a git revision to the working tree.

The base is what was committed in its dist/; the head is built in memory from the sources, under the base's
version, so that a new version alone changes nothing. What the required version rests on:

* **major**: a rule is removed, leaves the core tier or comes to the hunting tier (what is imported of it
  goes), or gets another id (an import makes a second rule beside the old one); a file of it, or one that
  holds every rule, is removed or gets another path; its look-back is shorter; an event of the tests, of
  today's or of the base's, is no longer found by a query or an import on some platform; the base's queries
  cannot be executed today, so that nothing shows that they found no more.
* **minor**: a rule or a file is added; an event is found that was not; the look-back is longer; level,
  alert columns or settings of an import change. And a query that changes by more than its words while no
  event changes its verdict: events cannot prove that it finds no less, so the change is not taken for a
  patch, and a notice asks for an event that shows it.
* **patch**: anything else that changes a file: titles, descriptions, references.

A query changes by no more than words if the head's detection with the base's other words gives the base's
files byte for byte.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detection_pack.build.dist import make
from detection_pack.diff.changed_verdicts import NotExecutable, VerdictChange, changed_verdicts, records_of
from detection_pack.diff.difference import (
    FileChange,
    Reason,
    Report,
    RuleChange,
    SharedChange,
    TestChange,
    ValueChange,
    differing_keys,
    shown,
    values,
)
from detection_pack.diff.revision import check_out
from detection_pack.diff.sides import QUERIES, Side, base_side, base_version, head_side, side_of
from detection_pack.diff.versions import Bump, version_of
from detection_pack.model.documents import Document
from detection_pack.model.findings import PackError
from detection_pack.model.pack import Pack, load_pack
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.rule import BY_HAND, Rule
from detection_pack.model.timespan import Timespan

#: What a rule finds is said under these keys; every other key says something about it.
_MEANING = ("detection", "correlation", "logsource", "whole_terms", "name")


def compare(root: Path, name: str) -> Report:
    """Compare the working tree in ``root`` with the revision ``name``.

    Raises `UnknownRevision` for a revision that cannot be compared with, `PackError` for faults of the head.
    """
    head = load_pack(root)
    head_version = version_of(head.version, root / "pyproject.toml")
    with tempfile.TemporaryDirectory(prefix="detection-pack-") as folder:
        revision = check_out(root, name, Path(folder) / "base")
        version, before = base_version(revision), base_side(revision, head.sources)
        pack = replace(head, version=str(version))
        after = head_side(pack, make(pack), Path(folder) / "head" / "dist")
        try:
            changes = _rule_changes(before, after, pack)
        except PackError as error:
            shown = (replace(f, path=f.path.removeprefix(f"{folder}/head/")) for f in error.findings)
            raise PackError(shown) from error
    shared = _shared_changes(before.shared(), after.shared())
    tests = [_test_change(before, after, rule) for rule in sorted(after.cases)]
    counted = tuple(test for test in tests if test.added or test.removed)
    return Report(revision.commit, version, head_version, tuple(changes), shared, counted)


def _rule_changes(before: Side, after: Side, pack: Pack) -> list[RuleChange]:
    common = sorted(before.entries.keys() & after.entries.keys())
    changed = [name for name in common if not before.same(after, name) or _moves(before, name)]
    gone = sorted(before.entries.keys() - after.entries.keys())
    new = sorted(after.entries.keys() - before.entries.keys())
    words_alone = _reworded(before, after, pack, changed)
    if not (changed or gone or new) and differing_keys(before.shared(), after.shared()):
        # Only what holds every rule differs: any rule may find other events in it.
        changed = common
    made = [_removed(before, after, name) for name in gone] + [_added(before, after, name) for name in new]
    made += [_changed(before, after, name, name in words_alone) for name in changed]
    return sorted((change for change in made if change.reasons), key=lambda c: (-c.bump, c.name))


def _reworded(before: Side, after: Side, pack: Pack, names: Iterable[str]) -> frozenset[str]:
    """The rules whose files differ by words alone: the head's detection under the base's words gives the
    base's files."""
    hybrids = {}
    for name in names:
        if (was := before.rules.get(name)) and (hybrid := _with_words_of(was, after.rules[name])):
            hybrids[name] = hybrid
    if not hybrids:
        return frozenset()
    built = make(replace(pack, rules=tuple(hybrids.values())), keep_going=True)
    mixed = side_of(after.dist, built.files, tuple(hybrids.values()))
    return frozenset(name for name in mixed.entries if mixed.same(before, name))


def _with_words_of(was: Rule, now: Rule) -> Rule | None:
    """The head's rule with the base's words; None where the two have other documents."""
    kinds = [["correlation" in document.data for document in rule.documents] for rule in (was, now)]
    if kinds[0] != kinds[1]:
        return None
    documents = []
    for old, new in zip(was.documents, now.documents, strict=True):
        words = {key: value for key, value in old.data.items() if key not in _MEANING}
        meaning = {key: value for key, value in new.data.items() if key in _MEANING}
        documents.append(Document(new.path, words | meaning, new.lines))
    main = documents[now.documents.index(now.main)]
    return Rule(now.name, now.path, was.tier, tuple(documents), main, guide=now.guide)


def _removed(before: Side, after: Side, name: str) -> RuleChange:
    entry = before.entries[name]
    heir = next((other for other, e in after.entries.items() if e["id"] == entry.get("id")), None)
    notices = () if heir is None else (f"its id goes on in {heir}: a new name is a new rule for users",)
    queries = tuple(FileChange(path, text, None) for path, text in before.queries(name).items())
    tier = str(entry.get("tier", ""))
    return RuleChange(
        name,
        "removed",
        str(entry.get("title", name)),
        (tier, ""),
        (Reason(Bump.MAJOR, "removed"),),
        queries,
        tuple(path for path in sorted(before.own(name)) if not path.endswith(QUERIES)),
        notices=notices,
    )


def _added(before: Side, after: Side, name: str) -> RuleChange:
    entry = after.entries[name]
    queries = tuple(FileChange(path, None, text) for path, text in after.queries(name).items())
    return RuleChange(
        name,
        "added",
        str(entry["title"]),
        ("", str(entry["tier"])),
        (Reason(Bump.MINOR, f"added to the {entry['tier']} tier"),),
        queries,
        tuple(path for path in sorted(after.own(name)) if not path.endswith(QUERIES)),
    )


def _changed(before: Side, after: Side, name: str, words_alone: bool) -> RuleChange:
    was, now = before.entries[name], after.entries[name]
    old, new = before.own(name), after.own(name)
    different = differing_keys(old, new)
    parts = differing_keys(before.parts[name], after.parts[name])
    settings = values(before.settings[name], after.settings[name])
    about = _about(before, after, name)
    verdicts: list[VerdictChange] = []
    notices: list[str] = []
    reasons = [
        *_identity_reasons(was, now),
        *(
            Reason(Bump.MAJOR, f"{then} moves to {path}")
            for path, then in _moves(before, name)
            if path in new
        ),
        *(
            Reason(Bump.MAJOR, f"{before.moved.get(path, path)} is removed")
            for path in sorted(old.keys() - new.keys())
        ),
        *(Reason(Bump.MINOR, f"{path} is added") for path in sorted(new.keys() - old.keys())),
        *_about_reasons(about, before.rules.get(name), after.rules[name]),
    ]
    if not words_alone:
        try:
            verdicts = _verdicts(before, after, name)
        except NotExecutable as error:
            first = error.findings[0]
            why = f"{first.path.removeprefix(f'{before.dist}/')}: {first.what}"
            reasons.append(Reason(Bump.MAJOR, f"the base's queries cannot be executed today: {why}"))
        else:
            reasons += _verdict_reasons(verdicts)
            if not verdicts and any(path.endswith(QUERIES) for path in different):
                reasons.append(Reason(Bump.MINOR, "a query changes, and no test event shows what that does"))
                notices.append("add an event that the change judges otherwise: without one it may find less")
        if settings:
            reasons.append(Reason(Bump.MINOR, "settings of an import change"))
    if (different or parts) and not reasons:
        reasons.append(Reason(Bump.PATCH, "its words change"))
    queries = tuple(
        FileChange(
            path, before.queries(name).get(path), after.queries(name).get(path), before.moved.get(path)
        )
        for path in different
        if path.endswith(QUERIES)
    )
    return RuleChange(
        name,
        "changed",
        str(now["title"]),
        (str(was.get("tier", "")), str(now["tier"])),
        tuple(dict.fromkeys(reasons)),
        queries,
        tuple(path for path in [*different, *parts] if not path.endswith(QUERIES)),
        about,
        settings,
        tuple(verdicts),
        tuple(notices),
    )


def _moves(before: Side, name: str) -> list[tuple[str, str]]:
    """``(path today, path then)`` of the rule's files that had another path."""
    return sorted((path, before.moved[path]) for path in before.own(name) if path in before.moved)


def _shared_changes(old: Mapping[str, object], new: Mapping[str, object]) -> tuple[SharedChange, ...]:
    return tuple(
        SharedChange(path, "added" if path not in old else "removed" if path not in new else "changed")
        for path in differing_keys(old, new)
    )


def _identity_reasons(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Reason]:
    reasons = []
    if was.get("id") != now["id"]:
        reasons.append(Reason(Bump.MAJOR, "another id: an import makes a second rule beside the old one"))
    if (tier := was.get("tier")) != now["tier"]:
        loses = tier == "core" or now["tier"] in BY_HAND
        bump = Bump.MAJOR if loses else Bump.MINOR
        reasons.append(Reason(bump, f"moves from the {tier} tier to the {now['tier']} tier"))
    return reasons


def _about(before: Side, after: Side, name: str) -> tuple[ValueChange, ...]:
    """What else the rule says of itself; out of the manifest where the base's rule cannot be loaded today."""
    rule = before.rules.get(name)
    if rule is None:
        return values(
            {k: shown(v) for k, v in before.about(name).items()},
            {k: shown(v) for k, v in after.about(name).items()},
        )
    old, new = (
        {key: shown(value) for key, value in r.main.data.items() if key not in _MEANING}
        for r in (rule, after.rules[name])
    )
    return values(old, new)


def _about_reasons(about: Iterable[ValueChange], was: Rule | None, now: Rule) -> list[Reason]:
    reasons = []
    for change in about:
        if change.of == "level":
            why = f"level {change.before or 'unset'} to {change.after or 'unset'}"
            reasons.append(Reason(Bump.MINOR, why))
        elif change.of == "alert":
            reasons.append(Reason(Bump.MINOR, "the columns of its alerts change"))
    if was is not None and Timespan.parse(was.lookback) != Timespan.parse(now.lookback):
        shorter = Timespan.parse(now.lookback) < Timespan.parse(was.lookback)
        why = f"look-back {was.lookback} to {now.lookback}"
        reasons.append(Reason(Bump.MAJOR if shorter else Bump.MINOR, why))
    return reasons


def _verdicts(before: Side, after: Side, name: str) -> list[VerdictChange]:
    """On the head's cases, and on those of the base that the head no longer has: dropping an event must not
    hide that it is no longer found."""
    today, then = after.cases[name], before.cases.get(name, ())
    known = {records_of(case) for case in today}
    dropped = frozenset(number for number, case in enumerate(then) if records_of(case) not in known)
    changes = changed_verdicts(name, before.dist, after.dist, today) if today else []
    if dropped:
        changes += changed_verdicts(name, before.dist, after.dist, then, dropped)
    return changes


def _verdict_reasons(verdicts: Sequence[VerdictChange]) -> list[Reason]:
    reasons = []
    for bump, word, verb in ((Bump.MAJOR, "narrowed", "lost"), (Bump.MINOR, "widened", "gained")):
        of = [change for change in verdicts if getattr(change, verb)]
        if of:
            platforms = ", ".join(p for p in PLATFORMS if any(change.platform == p for change in of))
            cases = len({(change.case, change.line) for change in of})
            counted = f"{cases} test case" + ("s" if cases > 1 else "")
            reasons.append(Reason(bump, f"{word} on {platforms}: a match is {verb} in {counted}"))
    return reasons


def _test_change(before: Side, after: Side, name: str) -> TestChange:
    old, new = ([records_of(case) for case in side.cases.get(name, ())] for side in (before, after))
    return TestChange(name, len(set(new) - set(old)), len(set(old) - set(new)))
