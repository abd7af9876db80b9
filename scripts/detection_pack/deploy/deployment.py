"""A deployment: compare with what is there, say what would change, and, where asked, change it.

Without ``apply`` nothing is written. What is new is created; what is there and differs is changed only with
``overwrite``, because nobody can tell an older version of the pack from what somebody has changed by hand.
What was written is read again, so that what a product drops, or changes, or does not tell, is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from detection_pack.model.findings import PackError, printable
from detection_pack.platforms.deploy_target import Deployable, DeployTarget, differing
from detection_pack.platforms.http_api import Refused

#: The states of a thing, in the order of the summary.
NEW, CREATED, CHANGES, UPDATED = "would create", "created", "would update", "updated"
UNCHANGED, DIFFERS, ALTERED, FAILED = "unchanged", "differs", "altered", "failed"
INCOMPLETE = "incomplete"
STATES = (NEW, CREATED, CHANGES, UPDATED, UNCHANGED, DIFFERS, INCOMPLETE, ALTERED, FAILED)
#: The states that a person has to look at.
_OPEN = (DIFFERS, INCOMPLETE, ALTERED, FAILED)
#: HTTP statuses after which each further request would fail alike.
_NOBODY = (401, 403)


@dataclass(frozen=True)
class Deployed:
    """What became of one thing. ``detail``: what differs, or why it failed; ``kept``: what stays theirs."""

    rule: str
    kind: str
    state: str
    detail: str = ""
    kept: tuple[str, ...] = ()

    def line(self) -> str:
        kept = f"keeps {', '.join(self.kept)}" if self.kept else ""
        said = "; ".join(filter(None, [self.detail, kept]))
        return printable(f"{self.state}: {self.rule} ({self.kind}){f': {said}' if said else ''}")

    def as_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "kind": self.kind,
            "state": self.state,
            "detail": self.detail,
            "kept": list(self.kept),
        }


@dataclass(frozen=True)
class Wish:
    """What is wanted: write at all, change what differs, and of which rules (None: of all)."""

    apply: bool = False
    overwrite: bool = False
    rules: frozenset[str] | None = None


def deploy(targets: Iterable[DeployTarget], wish: Wish, known: Iterable[str] = ()) -> list[Deployed]:
    """What became of each thing, in the targets' order. ``known`` are the names of all rules: a thing of none
    of them is shared, and goes with what is chosen.

    Raises `PackError` where a product cannot be asked at all, which is before anything is written to it.
    """
    names = frozenset(known)
    return [result for target in targets for result in _deployed(target, wish, names)]


def fine(results: Sequence[Deployed]) -> bool:
    """Whether nothing is left that a person has to look at."""
    return not any(result.state in _OPEN for result in results)


def text(results: Sequence[Deployed], wish: Wish) -> str:
    """A line for each thing, and what it comes to."""
    found = Counter(result.state for result in results)
    counts = ", ".join(f"{found[state]} {state}" for state in STATES if found[state]) or "nothing to deploy"
    lines = [*(result.line() for result in results), counts]
    if found[DIFFERS]:
        lines.append(
            "what differs is left as it is: another version, or somebody's change; --overwrite replaces it"
        )
    if not wish.apply and (found[NEW] or found[CHANGES]):
        lines.append("nothing was written; --apply does it")
    return "\n".join(lines)


def _deployed(target: DeployTarget, wish: Wish, known: frozenset[str]) -> list[Deployed]:
    items = list(_chosen(target.items(), wish, known))
    found: dict[str, Deployed] = {}
    new: list[Deployable] = []
    for item in items:
        # An error before the first write ends the whole; nothing is half done then.
        there = target.there(item)
        if there is None:
            new.append(item)
            found[item.id] = Deployed(item.rule, item.kind, NEW)
            continue
        differs = differing(item.body, there, target.theirs)
        kept = tuple(target.kept(item, there))
        state, said = UNCHANGED, ", ".join(differs)
        if differs and target.once:
            state, said = INCOMPLETE, f"lacks {said}"
        elif differs:
            state = CHANGES if wish.overwrite else DIFFERS
        found[item.id] = Deployed(item.rule, item.kind, state, said, kept)
    if wish.apply:
        if new:
            found |= _created(target, new)
        for item in items:
            if found[item.id].state == CHANGES:
                found[item.id] = _updated(target, item, found[item.id])
    return [found[item.id] for item in items]


def _chosen(items: Iterable[Deployable], wish: Wish, known: frozenset[str]) -> Iterator[Deployable]:
    listed = list(items)
    if wish.rules is None:
        yield from listed
        return
    if any(item.rule in wish.rules for item in listed):
        yield from (item for item in listed if item.rule in wish.rules or item.rule not in known)


def _created(target: DeployTarget, items: Sequence[Deployable]) -> dict[str, Deployed]:
    failed: dict[str, str] = {}
    unsure = ""
    try:
        failed = target.create(items)
    except PackError as error:
        # It may have been done in part, or whole: what is there now says so.
        unsure = error.findings[0].what
        if isinstance(error, Refused) and error.status in _NOBODY:
            why = f"{unsure}; {error.findings[0].todo}"
            return {item.id: Deployed(item.rule, item.kind, FAILED, why) for item in items}
    return {
        item.id: _read_back(
            target,
            item,
            CREATED,
            failed.get(item.id) or unsure or "the product does not have it",
            item.id in failed,
        )
        for item in items
    }


def _updated(target: DeployTarget, item: Deployable, planned: Deployed) -> Deployed:
    there = None
    try:
        # Read anew: between the comparison and now others may have changed it.
        there = target.there(item)
        if there is None:
            return Deployed(item.rule, item.kind, FAILED, "was removed meanwhile")
        differs = differing(item.body, there, target.theirs)
        if differs:
            target.update(item, there, differs)
    except PackError as error:
        return Deployed(item.rule, item.kind, FAILED, _said(error), planned.kept)
    return _read_back(target, item, UPDATED, "", False, planned)


def _read_back(
    target: DeployTarget,
    item: Deployable,
    state: str,
    why: str,
    failed: bool,
    planned: Deployed | None = None,
) -> Deployed:
    """The state of a thing that was written, by what is there now."""
    there = _quiet(lambda: target.there(item))
    if there is None or failed:
        return Deployed(item.rule, item.kind, FAILED, why or "cannot be read again")
    differs = differing(item.body, there, target.theirs)
    kept = planned.kept if planned else ()
    if differs:
        said = f"{state}, and the product has it otherwise in {', '.join(differs)}"
        return Deployed(item.rule, item.kind, ALTERED, said, kept)
    return Deployed(item.rule, item.kind, state, planned.detail if planned else "", kept)


def _quiet(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except PackError:
        return None


def _said(error: PackError) -> str:
    return f"{error.findings[0].what}; {error.findings[0].todo}"
