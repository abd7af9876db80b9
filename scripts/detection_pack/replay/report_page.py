"""``replay --report FILE.html``: the answer as one page that needs nothing else, for people.

Log content, rules and dist/ are untrusted. Whatever stands in the page as markup comes out of Jinja's
autoescape, whatever its script shows goes in as text, and the page's policy (Content-Security-Policy) runs
the one script and the one style whose hashes it names and loads nothing. Characters that do not print are
shown as escapes. No clock and no path of this machine: the same answer gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from detection_pack.build.folders import write_file
from detection_pack.model.findings import printable
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.platforms.platform import platforms
from detection_pack.replay.report_chart import chart
from detection_pack.replay.report_island import inert_json, island, moment
from detection_pack.replay.report_queries import queries_of

_DATA = Path(__file__).with_name("data")
#: The three lists of a rule's ``top``, and what the page calls them.
TOPS = {"users": "Users", "addresses": "Addresses", "applications": "Applications"}
#: How many rows of an investigation's lists the page shows.
_LISTED = 500
#: How many of each the page shows, over all rules.
_LONGEST_TOP = 10


def write_report(
    path: Path,
    answer: Mapping[str, Any],
    dist: Path,
    version: str,
    investigation: Mapping[str, Any] | None = None,
) -> None:
    """Write the page of an answer (the object that ``replay --format json`` prints), whole or not at all,
    and ``investigation`` (what ``investigate --format json`` prints) as a section of it.

    Raises `PackError` for a query of dist/ that cannot be read and for a file that cannot be written.
    """
    write_file(path, page(answer, dist, version, investigation).encode())


def page(
    answer: Mapping[str, Any], dist: Path, version: str, investigation: Mapping[str, Any] | None = None
) -> str:
    """The page as text. ``answer``: the keys of ``replay --format json``; what ``read`` lacks is left out."""
    names = [rule["rule"] for rule in answer["rules"]]
    used = [p for p in PLATFORMS if any(p in rule["platforms"] for rule in answer["rules"])]
    found = queries_of(dist, names, used)
    style, script = (_text(f"report.{kind}") for kind in ("css", "js"))
    environment = Environment(
        loader=FileSystemLoader(_DATA),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbered = list(enumerate(found))
    return environment.get_template("report.html.j2").render(
        answer=answer,
        read={"silent": (), "absent_fields": {}, "unknown": {}, **answer["read"]},
        rules=[{"differences": (), **rule} for rule in answer["rules"]],
        platforms=[(one.id, one.title) for one in platforms(used)],
        differs={rule["rule"]: _differs(rule) for rule in answer["rules"]},
        tops=[(key, title, _top(answer["rules"], key)) for key, title in TOPS.items()],
        queries={name: [q for q in numbered if q[1].rule == name] for name in names},
        chart=chart(answer),
        investigation=investigation,
        listed_rows=_LISTED,
        version=version,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        island=Markup(inert_json(island(answer, used, [q.text for q in found]))),
        many=lambda n, word: f"{n:,} {word}{'' if n == 1 else 's'}",
        block=_Block,
        when=_when,
    )


class _Block(str):
    """Text of several lines: its characters are escaped already, its line ends stay."""


def _shown(value: Any) -> Any:
    """What an expression of the template becomes, before autoescape: no character that does not print."""
    if isinstance(value, Markup | _Block):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    return printable(str(value))


def _text(name: str) -> str:
    return (_DATA / name).read_text(encoding="utf-8")


def _when(text: str | None) -> str:
    """A time for people, in UTC: "2026-03-10 09:15:00"."""
    time = moment(text)
    return str(text or "–") if time is None else f"{time.year:04}-{time:%m-%d %H:%M:%S}"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _differs(rule: Mapping[str, Any]) -> bool:
    """Whether two platforms see another number of hits."""
    return len({state["hits"] for state in rule["platforms"].values() if "hits" in state}) > 1


def _top(rules: Sequence[Mapping[str, Any]], key: str) -> list[tuple[str, int]]:
    """The values behind most hits of all rules. A value that is behind fewer than five others of a rule is
    not in the answer, so a sum may leave out a few of its hits."""
    sums: dict[str, int] = {}
    for rule in rules:
        for value, n in rule["top"][key]:
            sums[value] = sums.get(value, 0) + n
    return sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))[:_LONGEST_TOP]
