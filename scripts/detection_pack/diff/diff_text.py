"""A report of what changes, as text for a terminal, as Markdown for a pull request, as JSON.

A rule's text is shown in all three and can do nothing in any of them: no terminal sequence, no second line,
no Markdown or HTML element, no end of a fenced block.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from detection_pack.diff.changed_verdicts import VerdictChange
from detection_pack.diff.changelog import draft
from detection_pack.diff.difference import FileChange, Report, RuleChange, ValueChange
from detection_pack.diff.folder_comparison import FolderReport
from detection_pack.diff.versions import Bump
from detection_pack.languages import markdown
from detection_pack.model.findings import printable

FORMATS = ("text", "json", "markdown")
#: What becomes of a rule, as a `RuleChange` says it.
_KINDS = ("added", "changed", "removed")
#: How much of a changed value is shown; JSON has all of it.
_SHOWN = 300
_RESTS_ON = {
    Bump.MAJOR: "A rule or a file is gone or moved, or a rule finds, reaches or keeps less than before.",
    Bump.MINOR: "Nothing that the tests hold is lost, and something is added, found or decided otherwise.",
    Bump.PATCH: "Nothing that decides what is found or when changes.",
    Bump.NONE: "No file that users import changes.",
}


@dataclass(frozen=True)
class _Style:
    """How one format writes: ``say`` text of a rule, ``mark`` a name or a value, a heading of a level, a
    block of lines."""

    say: Callable[[object], str]
    mark: Callable[[object], str]
    heading: Callable[[int, str], str]
    block: Callable[[Sequence[str]], str]


def _plain_block(lines: Sequence[str]) -> str:
    return "\n".join("    " + printable(line.replace("\t", "    ")) for line in lines)


_MARKDOWN = _Style(
    markdown.text,
    markdown.code,
    lambda level, title: f"{'#' * level} {title}",
    lambda lines: markdown.fence("\n".join(lines), "diff"),
)
_TEXT = _Style(markdown.visible, markdown.visible, lambda _, title: title, _plain_block)


def render(report: Report, form: str) -> str:
    """The report in one of `FORMATS`, without a final newline."""
    if form == "json":
        return json.dumps(_as_json(report), indent=1)
    return "\n\n".join(_blocks(report, _MARKDOWN if form == "markdown" else _TEXT))


def render_folder(report: FolderReport, form: str, limit: int | None = None) -> str:
    """The same of a folder of anybody's rules. ``limit``: how many characters it may have; blocks that no
    longer fit are left out whole, and a last line says so."""
    if form == "json":
        return json.dumps(asdict(report), indent=1)
    blocks = list(_folder_blocks(report, _MARKDOWN if form == "markdown" else _TEXT))
    return "\n\n".join(blocks if limit is None else _fitting(blocks, limit))


def _fitting(blocks: Sequence[str], limit: int) -> list[str]:
    """The first of the blocks that fit with a line of their number, or all."""
    if len("\n\n".join(blocks)) <= limit:
        return list(blocks)
    fitting: list[str] = []
    room = limit
    for block in blocks:
        left = f"{len(blocks) - len(fitting)} of {len(blocks)} blocks are left out: the report is too long."
        if room < len(block) + 2 + len(left) + 2:
            return [*fitting, left]
        fitting.append(block)
        room -= len(block) + 2
    return fitting


def _folder_blocks(report: FolderReport, style: _Style) -> Iterator[str]:
    yield style.heading(2, "What changes for users")
    counts = [(kind, sum(rule.kind == kind for rule in report.rules)) for kind in _KINDS]
    found = ", ".join(f"{number} {kind}" for kind, number in counts if number)
    yield (
        f"Compared with {style.mark(report.base[:12])}, both sides built by detection-pack {report.version}: "
        + (f"rules {found}." if found else "no query and no import changes.")
    )
    for title, findings in (("Refused since", report.refused), ("No longer refused", report.mended)):
        if findings:
            yield style.heading(3, title)
            # A list a block: what does not fit is left out by the finding.
            for one in findings:
                where = style.mark(f"{one.path}:{one.line}")
                yield f"- {where}: {style.say(one.what)}; {style.say(one.todo)}"
    if report.rules:
        yield style.heading(3, "Rules")
        yield "\n".join(f"- {style.mark(change.name)}: {change.kind}" for change in report.rules)
    for change in report.rules:
        yield style.heading(3, f"{style.mark(change.name)}: {change.kind}")
        yield style.say(change.title)
        yield from _details(change, style)


def _blocks(report: Report, style: _Style) -> Iterator[str]:
    yield style.heading(2, "What changes for users")
    bump = report.bump.name.lower()
    yield (
        f"Compared with {style.mark(report.base[:12])}, version {report.base_version}: {bump}. "
        f"{_RESTS_ON[report.bump]} "
        + (
            f"The version is {report.head_version} and must be {report.required} or higher."
            if report.bump
            else f"The version is {report.head_version}."
        )
    )
    if report.rules:
        yield "\n".join(
            f"- {style.mark(change.name)}: {change.kind}, {change.bump.name.lower()}"
            for change in report.rules
        )
    for change in report.rules:
        yield from _rule(change, style)
    if report.shared:
        yield style.heading(3, "Changed files that hold every rule")
        yield "\n".join(f"- {style.mark('dist/' + file.path)}: {file.kind}" for file in report.shared)
    if report.tests:
        yield style.heading(3, "Tests")
        yield "\n".join(
            f"- {style.mark(t.rule)}: {t.added} cases added, {t.removed} removed" for t in report.tests
        )
    if report.bump:
        yield style.heading(3, "Draft for CHANGELOG.md")
        # A draft is Markdown in every format, for pasting.
        lines = draft(report)
        yield markdown.fence("\n".join(lines), "markdown") if style is _MARKDOWN else _plain_block(lines)


def _rule(change: RuleChange, style: _Style) -> Iterator[str]:
    yield style.heading(3, f"{style.mark(change.name)}: {change.kind}")
    tiers = " to ".join(style.say(tier) for tier in dict.fromkeys(change.tiers) if tier)
    yield f"{style.say(change.title)} ({tiers})"
    reasons = [f"- {reason.bump.name.lower()}: {style.say(reason.why)}" for reason in change.reasons]
    yield "\n".join([*reasons, *(f"- note: {style.say(notice)}" for notice in change.notices)])
    yield from _details(change, style)


def _details(change: RuleChange, style: _Style) -> Iterator[str]:
    """What of a rule changes: its words, settings, verdicts, queries and other files."""
    if change.about:
        yield "The rule:"
        yield "\n".join(f"- {_value(value, style)}" for value in change.about)
    if change.settings:
        yield "Settings of its imports:"
        yield "\n".join(f"- {_value(value, style)}" for value in change.settings)
    if change.verdicts:
        yield "Verdicts of test cases:"
        yield "\n".join(_verdict(verdict, style) for verdict in change.verdicts)
    for file in change.queries:
        yield style.block(_unified(file))
    if change.other_files:
        yield "Other files of it that change: " + ", ".join(
            style.mark("dist/" + path) for path in change.other_files
        )


def _value(change: ValueChange, style: _Style) -> str:
    before, after = (
        "nothing" if value is None else style.mark(_cut(value)) for value in (change.before, change.after)
    )
    return f"{style.say(change.of)}: {before} becomes {after}"


def _verdict(change: VerdictChange, style: _Style) -> str:
    moved = [
        f"{word} {', '.join(map(style.mark, found[:5]))}" + (", …" if len(found) > 5 else "")
        for word, found in (("no longer finds", change.lost), ("now finds", change.gained))
        if found
    ]
    side = "match" if change.expected else "no_match"
    case = f"{style.say(change.case)} ({style.mark(f'{change.path}:{change.line}')}, {side})"
    return (
        f"- {change.platform}: {case}: {'; '.join(moved)}, in {', '.join(map(style.mark, change.artefacts))}"
    )


def _unified(file: FileChange) -> list[str]:
    before, after = (
        [] if text is None else text.removesuffix("\n").split("\n") for text in (file.before, file.after)
    )
    old, new = (
        f"dist/{path}" if text is not None else "/dev/null"
        for path, text in ((file.formerly or file.path, file.before), (file.path, file.after))
    )
    return list(difflib.unified_diff(before, after, old, new, lineterm=""))


def _cut(value: str) -> str:
    return value if len(value) <= _SHOWN else value[: _SHOWN - 1] + "…"


def _as_json(report: Report) -> dict[str, object]:
    data = asdict(report)
    for rule, change in zip(data["rules"], report.rules, strict=True):
        rule["bump"] = change.bump.name.lower()
        for reason in rule["reasons"]:
            reason["bump"] = Bump(reason["bump"]).name.lower()
    for key in ("base_version", "head_version"):
        data[key] = str(getattr(report, key))
    return data | {
        "bump": report.bump.name.lower(),
        "required_version": str(report.required),
        "changelog": "\n".join(draft(report)) + "\n" if report.bump else "",
    }
