"""The Markdown that a Kibana rule carries: the investigation guide (``note``) and the ``setup`` guide.

Text of a rule is shown, never interpreted; see `detection_pack.markdown`. What Kibana does interpret is the
pack's own: buttons that open Timeline on the values of the alert (Kibana's source, the plugin ``insight`` of
its Markdown editor; the form of ``transform.investigate`` in elastic/detection-rules).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from detection_pack.languages.markdown import fence, folded, plain
from detection_pack.model.playbook import HOWS, Guide
from detection_pack.model.rule import Rule
from detection_pack.platforms.elastic.timing import Schedule
from detection_pack.platforms.elastic.timing import text as span_text
from detection_pack.platforms.guide_text import PLAYBOOK_PAGE, questions_of, step_line
from detection_pack.platforms.prerequisites import Prerequisite

#: A correlation is two rules; each says whom it is for.
_FOR_WHOM = {
    "esql": (
        "This is the exact rule of the two for this detection. Enable it where the licence has alert "
        "suppression (Platinum, Enterprise, Serverless Security Analytics Complete), and leave the one whose "
        'name ends in "(threshold)" off. Without suppression each run would alert again on every window '
        "within its look-back."
    ),
    "threshold": (
        "This is the approximate rule of the two for this detection, for licences without alert "
        "suppression (Basic). It may alert on less than the detection says: it goes by arrival time over "
        "more than the window and compares no two fields. It tells names in different letter case apart and "
        "sees no event without a value in a grouping field. Elsewhere leave it off and enable the ES|QL "
        "rule of the same name."
    ),
}


#: The labels of a guide's buttons, by what the field says of the alert.
_BUTTONS = {"Who": "Everything of this account", "From where": "Everything from this source"}
#: Relative to the alert, which comes after the events that it is about.
_AROUND = {"relativeFrom": "now-2d", "relativeTo": "now+1d"}
#: A name of a field that can be told apart from the braces around it.
_FIELD = re.compile(r"[A-Za-z0-9_@.-]+")


def paragraphs(value: object) -> list[str]:
    """The paragraphs of a block of text, a line each."""
    return [line for line in map(folded, re.split(r"\n\s*\n", str(value))) if line]


def texts(value: object) -> list[str]:
    """A Sigma list of texts, which may also be one text or missing."""
    listed = value if isinstance(value, list) else [] if value is None else [value]
    return [line for line in map(folded, listed) if line]


def investigation_guide(rule: Rule, fields: Mapping[str, str], kind: str) -> str:
    """How to decide on an alert: what it says, where to look, what is known to be harmless.

    ``fields`` maps the canonical fields of the view to the platform's. The result is Markdown.
    """
    alert = rule.alert
    lines = [f"## Triage: {plain(rule.title)}", ""]
    for paragraph in paragraphs(rule.main.data.get("description") or ""):
        lines += [plain(paragraph), ""]
    if kind in _FOR_WHOM:
        lines += [_FOR_WHOM[kind], ""]
    lines += ["### Read the alert", ""]
    shown = [
        ("Who", alert.user, "a person, a service account, or the system? Its usual work, or new?"),
        ("From where", alert.source, "known to the organisation, and usual for this account?"),
        ("With what", alert.agent, "a program that this account uses?"),
        ("What else", alert.extra, "the particulars: names, parameters, targets."),
    ]
    asked = [(who, fields[name], question) for who, name, question in shown if name and name in fields]
    lines += [f"- {who}: `{field}`: {question}" for who, field, question in asked]
    buttons = [
        _button(_BUTTONS[who], field)
        for who, field, _ in asked
        if who in _BUTTONS and _FIELD.fullmatch(field)
    ]
    named = [fields[p] for is_field, p in alert.detail_parts() if is_field and p in fields]
    lines += [f"- The detection itself: `{field}`" for field in dict.fromkeys(named)]
    if guide := rule.guide:
        meant = [f"- `{fields[n]}`: {plain(said)}" for n, said in guide.meanings.items() if n in fields]
        lines += ["", "### What the fields mean", "", *dict.fromkeys(meant)] if meant else []
        if guide.kind.normal:
            lines += ["", "### What is normal", "", plain(guide.kind.normal)]
        lines += _questions(guide)
    lines += ["", "### Decide", ""]
    pivot = " and ".join(f"`{field}`" for _, field, _ in asked[:2]) or "the fields above"
    if buttons:
        opens = (
            "Each opens Timeline from two days before the alert to a day after it (with a Platinum licence; "
            "without one it is grey):"
        )
        lines += [opens, "", *(line for one in dict.fromkeys(buttons) for line in (one, ""))]
    steps = [
        f"Open the alert in Timeline; widen it to everything with the same {pivot} a day before and after.",
        "Compare with the list of false positives below. Ask the person, by another channel than mail.",
        "Look for how access was gained: sign-ins, consents, rights granted, passwords changed just before.",
        "If no harmless reason is found, keep the events, raise a case and contain the account and the host.",
    ]
    if kind == "threshold":
        first = "Read the events first: the rule counts by arrival, and over more than the window."
        steps.insert(0, first)
    lines += [f"{number}. {step}" for number, step in enumerate(steps, start=1)]
    if harmless := texts(rule.main.data.get("falsepositives")):
        lines += ["", "### Known false positives", "", *(f"- {plain(text)}" for text in harmless)]
    if rule.guide is not None:
        lines += _response(rule.guide)
    return "\n".join(lines) + "\n"


def _button(label: str, field: str) -> str:
    """A button for what has the alert's value of a field, a paragraph of its own: Kibana takes the rest of
    its paragraph for a part of it. The value is put in when the alert is shown."""
    provider = {
        "field": field,
        "excluded": False,
        "queryType": "phrase",
        "value": f"{{{{{field}}}}}",
        "valueType": "string",
    }
    stated = {"label": label, "providers": [[provider]], **_AROUND}
    return f"!{{investigate{json.dumps(stated, separators=(',', ':'))}}}"


def _questions(guide: Guide) -> list[str]:
    """What to ask, each with the Discover sessions of the pack that answer it."""
    asked = questions_of(guide, "elastic")
    if not asked:
        return []
    lines = ["", "### Ask, in this order", "", "In brackets: Discover sessions of hunts.ndjson.", ""]
    for number, (ask, titles) in enumerate(asked, start=1):
        named = f" ({'; '.join(map(plain, titles))})" if titles else ""
        lines.append(f"{number}. {plain(ask)}{named}")
    return [*lines, "", *(f"- No log shows {plain(one)}" for one in guide.kind.cannot_show)]


def _response(guide: Guide) -> list[str]:
    """The steps, each with its command, right and way back."""
    lines = ["", "### Respond", "", f"More on each step: {PLAYBOOK_PAGE} of the pack."]
    for number, step in enumerate(guide.kind.steps, start=1):
        about = f"Needs {step.right}. Breaks: {step.breaks}. Undo: {step.undo}."
        lines += ["", f"{number}. {plain(step_line(step))}. {plain(about)}"]
        if step.how != "person":
            lines += ["", fence(step.command, HOWS[step.how])]
    return lines


def setup_guide(
    kind: str,
    timing: Schedule,
    index: Sequence[str],
    needed: Sequence[Prerequisite],
    suppressed: Iterable[str],
    arriving: Sequence[str] = (),
) -> str:
    """What must be there before the rule finds anything, and how it runs. The result is Markdown.

    ``arriving``: fields without which the query fails, and which the index gets with the first record.
    """
    lines = ["## Setup", "", "The rule is imported disabled. One of these must fill its indices:", ""]
    known = {one.place: one for one in needed}
    for pattern in index:
        lines.append(f"- `{pattern}`" + (f": {known[pattern].sentence()}" if pattern in known else ""))
    if needed:
        said = "No row, or an index that is not known, means that the source is silent (Discover, ES|QL):"
        lines += ["", "### See that the data is there", "", said]
        for one in needed:
            lines += ["", fence(one.silent, "esql")]
    if kind in _FOR_WHOM:
        lines += ["", "### Which rule to enable", "", _FOR_WHOM[kind]]
    if arriving:
        named = ", ".join(f"`{name}`" for name in arriving)
        lines += ["", "### Fields that must have arrived once", ""]
        lines.append(
            f"Until a record has brought them, Elasticsearch knows no column {named}, and each run fails "
            'with "Unknown column". Enable the rule after the first such record, or put a mapping for the '
            "field into the integration's @custom component template."
        )
    lines += ["", "### Late events", "", _late(kind, timing)]
    by = [f"`{name}`" for name in suppressed]
    if by:
        lines += ["", "### Suppression", "", f"With a licence for it, alerts are grouped by {', '.join(by)}."]
        if kind == "esql":
            lines.append(
                "Closing an alert ends its suppression, and the window alerts once more while it is in "
                "reach: set securitySolution:suppressionBehaviorOnAlertClosure to Continue until "
                "suppression window ends (from 9.2), or mark the alert as acknowledged until then."
            )
        else:
            lines.append(
                "This hides events: for an hour after an alert, further ones with the same values are no "
                "alerts of their own. They raise the alert's count (kibana.alert.suppression.docs_count), "
                "and Investigate in timeline shows them. To see an alert for each, clear Suppress alerts "
                "by; a run then raises 100 of them, and the next run goes on."
            )
    return "\n".join(lines) + "\n"


def _late(kind: str, timing: Schedule) -> str:
    interval, back = span_text(timing.interval), span_text(timing.back)
    runs = f"The rule runs every {interval} and looks back {back}"
    if kind == "query":
        return (
            f"{runs} by event.ingested (by @timestamp where that is missing, as it can be with Winlogbeat): "
            "an event is found whenever it arrives. Runs overlap on purpose; Kibana makes one alert of a "
            "document, however many runs find it."
        )
    if kind == "esql":
        return (
            f"{runs} by @timestamp, so that a record that arrives late is counted with the rest of its "
            "window. A window that fills up late alerts when it is full; the count in the alert is that of "
            "the first run that alerted."
        )
    return (
        f"{runs} by event.ingested: it counts what arrived within {back}, whenever it happened. After an "
        "alert Kibana leaves out what that group had up to then, and starts to count anew."
    )
