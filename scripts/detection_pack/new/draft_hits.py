"""What a drafted rule hits before anybody has written it down: in what was seen, and in a baseline."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from detection_pack.build.dist import make
from detection_pack.build.dist import write as write_dist
from detection_pack.model.documents import load_documents
from detection_pack.model.findings import Finding, printable
from detection_pack.model.pack import Pack, load_pack
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.rule import Rule
from detection_pack.new.draft import draft
from detection_pack.replay.answer import Answer
from detection_pack.replay.answer_text import answer_text
from detection_pack.replay.log_replay import Asked, answered, opened


@dataclass(frozen=True)
class SeenDraft:
    """The files of a draft, by their path relative to the pack, and what it hits, for people."""

    files: Mapping[str, str]
    text: str


def draft_of_events(
    root: Path, name: str, tier: str, seen: Sequence[Path], baseline: Sequence[Path]
) -> SeenDraft:
    """A rule of what the records of ``seen`` share, with its hits on each platform. Where a platform would
    miss some of the records, as one that holds a field in another form does, the rule is about the one field
    alone, if all are found then. Raises `PackError`."""
    pack = load_pack(root, findings=list[Finding]())
    with tempfile.TemporaryDirectory(prefix="detection-pack-") as scratch:
        files = draft(root, name, tier=tier, log=seen)
        tried = _built(pack, files, name, Path(scratch) / "all")
        found, records = _answer(*tried, seen)
        if _missing(found, records):
            fewer = draft(root, name, tier=tier, log=seen, alone=True)
            again = _built(pack, fewer, name, Path(scratch) / "alone")
            found_again, _ = _answer(*again, seen)
            if not _missing(found_again, records):
                files, tried, found = fewer, again, found_again
        lines = ["", f"records seen: {records}, hits: {_counts(found)}"]
        if missing := _missing(found, records):
            lines.append(f"not all of them are found: {', '.join(missing)}; look at the rule's fields")
        if baseline:
            answer, _ = _answer(*tried, baseline)
            lines += [f"hits in the baseline: {_counts(answer)}", "", answer_text(answer.as_json()), ""]
    return SeenDraft(files, "\n".join(lines))


def _built(pack: Pack, files: Mapping[str, str], name: str, folder: Path) -> tuple[Pack, Path]:
    """The pack with the draft alone, and its build below ``folder``."""
    [(path, text)] = [(Path(path), text) for path, text in files.items() if path.startswith("sigma/")]
    documents = tuple(load_documents(pack.root / path, text))
    rule = Rule(name, pack.root / path, path.parent.name, documents, documents[-1])
    alone = replace(pack, rules=(rule,))
    write_dist(make(alone), folder / "dist")
    return alone, folder / "dist"


def _answer(pack: Pack, dist: Path, logs: Sequence[Path]) -> tuple[Answer, int]:
    """What the draft finds in logs, and how many records they hold."""
    asked = Asked(dist, PLATFORMS, [rule.name for rule in pack.rules])
    reading, trials = opened(asked, pack, logs, dist.parent, _untold)
    with reading:
        return answered(asked, pack, reading, trials, _untold), sum(reading.counts.values())


def _missing(answer: Answer, records: int) -> list[str]:
    """The platforms that do not find every record."""
    return [name for rule in answer.rules for name, found in rule.platforms.items() if found != records]


def _untold(label: str, done: int, total: int) -> None:
    """Nobody is told how far a draft's replay is."""


def _counts(answer: Answer) -> str:
    """The platforms with their hits; one that cannot run the rule says why."""
    [rule] = answer.rules
    return printable(", ".join(f"{name} {found}" for name, found in rule.platforms.items()))
