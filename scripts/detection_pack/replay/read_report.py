"""What a run has read, in lines for people: records by source and kind, and everything that was left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from detection_pack.model.findings import printable
from detection_pack.replay.reading import Reading

#: How many kinds are named; the others are counted together.
_KINDS = 12


def lines(reading: Reading) -> Iterator[str]:
    """One line a fact; names that files brought are shown with escapes for what does not print."""
    for finding in (*reading.skipped.first, *reading.unreadable):
        yield f"skipped: {finding}"
    for finding in reading.partial:
        yield str(finding)
    skipped, named = reading.skipped.count, len(reading.skipped.first)
    if skipped:
        more = "" if skipped == named else f", the first {named} named above"
        yield f"skipped: {skipped} {_records(skipped)} in all{more}"
    for source in dict.fromkeys(name for name, _ in reading.counts):
        kinds = {kind: n for (name, kind), n in reading.counts.items() if name == source}
        total = sum(kinds.values())
        yield f"read: {total} {_records(total)} of {source} ({_listed(kinds)})"
    if reading.span is not None:
        first, last = (moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in reading.span)
        yield f"read: from {first} to {last}"
    if reading.repeated:
        yield f"repeated: {reading.repeated} {_records(reading.repeated)}"
    if reading.other:
        total = sum(reading.other.values())
        yield f"other kinds: {total} {_records(total)} ({_listed(reading.other)})"


def _records(count: int) -> str:
    return "record" if count == 1 else "records"


def _listed(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    said = [f"{printable(name)}: {n}" for name, n in ordered[:_KINDS]]
    if rest := ordered[_KINDS:]:
        said.append(f"{len(rest)} more kinds: {sum(n for _, n in rest)}")
    return ", ".join(said)
