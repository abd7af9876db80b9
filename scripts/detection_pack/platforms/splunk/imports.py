"""What people import into Splunk, written and read: saved searches as scheduled alerts or, of the hunting
tier, as reports that nothing runs, and macros.

Sources: savedsearches.conf and macros.conf of the Admin Manual; for Enterprise Security the
savedsearches.conf of Splunk's own content (action.correlationsearch, action.notable, action.risk). Searches
come disabled. Without Enterprise Security nothing reads those three actions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detection_pack.languages.conf import Stanzas, conf_text, one_line, read_conf
from detection_pack.model.rule import BY_HAND, Rule
from detection_pack.platforms.guide_text import plain_guide
from detection_pack.platforms.platform import ImportFiles, Setting
from detection_pack.platforms.settings import chosen, decoded, readable
from detection_pack.platforms.splunk.app import read_archive
from detection_pack.platforms.splunk.lists import LISTS_APP
from detection_pack.platforms.splunk.query import KEEP_ALL, SplunkQuery, exclusions
from detection_pack.platforms.splunk.timing import answered, scheduled, time_range

PLATFORM = "splunk"
MACROS = f"{PLATFORM}/macros.conf"

#: The suffix of the search that reads the accelerated data set.
ON_DATA_SET = ".tstats"
ON_RAW_EVENTS = ".raw"
#: What the label of a rule's other searches adds to its title.
FORMS = {"": "", ON_DATA_SET: " (data model)", ON_RAW_EVENTS: " (raw events)"}

#: By level: severity in Enterprise Security, `alert.severity`, risk score. The specification
#: says 1 debug to 6 fatal; Splunk Web shows 1 Info, 2 Low, 3 Medium, 4 High, 5 Critical, and no 6.
SEVERITIES = {
    "informational": ("informational", "1", 10),
    "low": ("low", "2", 25),
    "medium": ("medium", "3", 50),
    "high": ("high", "4", 75),
    "critical": ("critical", "5", 90),
}
#: The definition of a macro that stands for an index: a site puts its own there.
ANY_INDEX = "index=*"


_ALLOWED = (
    "Drops what a site allows. The app reads its allow-list here; without the app: every result is kept."
)


def shared() -> dict[str, tuple[str, str]]:
    """What every search calls, as ``{macro: (definition, description)}``."""
    return {exclusions(): (KEEP_ALL, _ALLOWED)}


PARAMETERS = {
    "lookback": "How far back one run of {rule} looks.",
    "window": "The clock window in which {rule} counts; the text of its alert names the window as shipped.",
    "since": "The start of the look-back of {rule} for its alert; change it together with {rule}_lookback.",
    "step": "Every how many seconds a window of {rule} starts. Its length is a number of steps.",
    "threshold": "The count at which {rule} alerts.",
    "filter": "What a site drops from the results of {rule}, such as: search NOT UserId=svc@example.com.",
}
#: What decides when a saved search runs, on what, and what becomes of a result. Prose is left out.
_SETTINGS = (
    "disabled",
    "enableSched",
    "cron_schedule",
    "dispatch.earliest_time",
    "dispatch.latest_time",
    "dispatch.index_earliest",
    "dispatch.index_latest",
    "realtime_schedule",
    "schedule_window",
    "allow_skew",
    "counttype",
    "relation",
    "quantity",
    "alert.severity",
    "alert.digest_mode",
    "alert.suppress",
    "alert.suppress.fields",
    "alert.suppress.period",
    "action.notable.param.severity",
)


_MACRO = re.compile(r"`(\w+)`")


def saved_searches(rule: Rule, query: SplunkQuery) -> Stanzas:
    """A stanza a search, named as its file in queries/, which it has in it: as it is in a report, and with
    the column `ALERT_KEY` in an alert."""
    stanzas: Stanzas = {}
    if rule.tier in BY_HAND:
        texts = (query.text, query.data_set_text, query.raw_text)
        found = (
            (rule.name + form, text) for form, text in zip(FORMS, texts, strict=True) if text is not None
        )
        return {stanza: report(rule, query, text) for stanza, text in found}
    for form, text, drill_down in zip(FORMS, query.scheduled(), query.drill_downs(), strict=True):
        if text is not None:
            stanzas[rule.name + form] = saved_search(rule, query, rule.name + form, text, drill_down)
    return stanzas


def saved_searches_text(rule: Rule, query: SplunkQuery) -> str:
    """The rule's stanzas. Raises `PackError` for a rule that savedsearches.conf cannot hold."""
    try:
        return conf_text(saved_searches(rule, query))
    except ValueError as error:
        raise rule.refused(error, "name") from error


def report(rule: Rule, query: SplunkQuery, text: str) -> dict[str, str]:
    """The settings of one report: it has no schedule and no action, so that it runs when somebody runs it."""
    return {
        "search": text.rstrip("\n"),
        "description": " ".join(
            [f"{_described(rule)} {_needs(query, text)}".rstrip(), *plain_guide(rule, PLATFORM, "this app")]
        ),
        "disabled": "0",
        "enableSched": "0",
        "is_visible": "1",
        **time_range(rule, query.snap),
    }


def _described(rule: Rule) -> str:
    described = one_line(rule.main.data.get("description") or rule.title)
    author = one_line(rule.main.data.get("author") or "unknown")
    under = f", {one_line(rule.licence)}" if rule.licence else ""
    return f"{described} Sigma rule {rule.id} by {author}{under}."


def saved_search(
    rule: Rule, query: SplunkQuery, stanza: str, text: str, drill_down: str | None
) -> dict[str, str]:
    """The settings of one scheduled search."""
    severity, number, _ = SEVERITIES.get(rule.level, SEVERITIES["medium"])
    label = one_line(rule.title) + FORMS[stanza.removeprefix(rule.name)]
    described = _described(rule)
    return {
        "search": text.rstrip("\n"),
        "description": f"{described} {_needs(query, text)}".rstrip(),
        "disabled": "1",
        **scheduled(rule, stanza, query.snap),
        **answered(rule, query.snap, stanza.endswith(ON_DATA_SET)),
        "counttype": "number of events",
        "relation": "greater than",
        "quantity": "0",
        "alert.track": "1",
        "alert.severity": number,
        "action.correlationsearch.enabled": "1",
        "action.correlationsearch.detection_type": "ebd",
        "action.correlationsearch.label": literal(label),
        "action.correlationsearch.annotations": _json(_annotations(rule)),
        "action.correlationsearch.metadata": _json({"deprecated": "0", "detection_id": rule.id}),
        "action.notable": "1",
        "action.notable.param.rule_title": f"{literal(label)} : $UserId$ , $ClientIP$",
        "action.notable.param.rule_description": f"$DetectionDetail$ . {literal(described)}",
        "action.notable.param.security_domain": query.security_domain,
        "action.notable.param.severity": severity,
        "action.notable.param.nes_fields": ",".join(query.entities),
        "action.notable.param._entities": _json(
            [one for one in _risk(rule, query) if "risk_object_field" in one]
        ),
        "action.notable.param.drilldown_searches": _drill_downs(drill_down),
        **_next_steps(rule),
        "action.risk": "1",
        "action.risk.param._risk": _json(_risk(rule, query)),
        "action.risk.param._risk_score": "0",
        "action.risk.param._risk_message": f"{literal(one_line(rule.alert.type))} : $UserId$ , $ClientIP$",
        "action.risk.param.verbose": "0",
    }


def _needs(query: SplunkQuery, text: str) -> str:
    """What must be there for a search, by the macros that it calls."""
    called = set(_MACRO.findall(text))
    return " ".join(f"Needs: {one_line(one.sentence())}" for one in query.needed if one.place in called)


def literal(text: str) -> str:
    """Text of a rule for an alert action, in which ``$name$`` is replaced by a value of the result.

    No escape for a dollar sign is documented there, so a blank breaks what would be a name.
    """
    return re.sub(r"\$(?=[^$\s]*\$)", "$ ", text)


def _annotations(rule: Rule) -> dict[str, Any]:
    found: dict[str, Any] = {"mitre_attack": list(rule.techniques), "sigma_rule": [rule.id]}
    if rule.main.data.get("confidence") is not None:
        found["sigma_confidence"] = [one_line(rule.main.data["confidence"])]
    return {key: value for key, value in found.items() if value}


def _drill_downs(search: str | None) -> str:
    """What Enterprise Security offers to search from an alert, over the time range of the run."""
    if search is None:
        return "[]"
    offsets = {"earliest_offset": "$info_min_time$", "latest_offset": "$info_max_time$"}
    return json.dumps([{"name": "Events of this alert", "search": search, **offsets}])


def _next_steps(rule: Rule) -> dict[str, str]:
    """What Enterprise Security shows as next steps: text under ``data`` of an object of version 1, as its own
    editor writes it (ansible-collections/splunk.es, adaptive_response_notable_event). A dollar sign or two
    brackets in a row would be a field or an action there."""
    lines = plain_guide(rule, PLATFORM, "the reports of this app")
    text = literal("\n".join(lines)).replace("[[", "[ [").replace("]]", "] ]")
    return {"action.notable.param.next_steps": _json({"version": 1, "data": text})} if lines else {}


def _risk(rule: Rule, query: SplunkQuery) -> list[dict[str, Any]]:
    """Who gains risk: the account, and the host where the source of the alert is one; an address is a threat
    object."""
    _, _, score = SEVERITIES.get(rule.level, SEVERITIES["medium"])
    kinds = {"user": "user"} | dict.fromkeys(query.hosts.values(), "system")
    return [
        {"risk_object_field": name, "risk_object_type": kinds[name], "risk_score": score}
        if name in kinds
        else {"threat_object_field": name, "threat_object_type": "ip_address"}
        for name in query.entities
    ]


def _json(value: Any) -> str:
    # ASCII only, a dollar sign too: the text is JSON again when the action reads it.
    return json.dumps(value).replace("$", "\\u0024")


def macros_of_sources(sources: Mapping[str, Sequence[str]]) -> Stanzas:
    """Where the events are, as ``{macro: (definition, description)}`` has it, and what every search calls. A
    site that keeps its events elsewhere edits these in its own macros.conf."""
    return {
        name: _macro(definition, about) for name, (definition, about) in ({**sources, **shared()}).items()
    }


def macros_of(query: SplunkQuery) -> Stanzas:
    """The parameters of one rule."""
    return {
        name: _macro(definition, PARAMETERS[name.removeprefix(query.name + "_")].format(rule=query.name))
        for name, definition in query.macros.items()
    }


def _macro(definition: str, about: str) -> dict[str, str]:
    return {"definition": definition, "description": about, "iseval": "0"}


class SplunkImports(ImportFiles):
    """The saved searches of the app, and the macros, which stand in the app and beside the queries."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        start, lists = f"{PLATFORM}/", f"{PLATFORM}/{LISTS_APP}-"
        archives = [p for p in sorted(files) if p.startswith(start) and p.endswith(".tgz")]
        self._app = next((p for p in archives if not p.startswith(lists)), "")
        with readable(MACROS):
            self._macros = read_conf(decoded(files.get(MACROS, b"")))
        with readable(self._app):
            app = read_archive(files[self._app]) if self._app else {}
            self._saved_searches = read_conf(app.get("default/savedsearches.conf", ""))

    def schedules(self, rule: str) -> list[Setting]:
        return [
            setting
            for name in self._searches(rule)
            for setting in chosen(PLATFORM, name, self._saved_searches[name], _SETTINGS, self._kind(name))
        ]

    def _kind(self, name: str) -> str:
        alerts = self._saved_searches[name].get("enableSched") == "1"
        return f"{'alert' if alerts else 'report'} `{name}`"

    def parameters(self, rule: str) -> list[Setting]:
        """The macros that the rule's searches call, its own first."""
        with readable(MACROS):
            paths = (f"{PLATFORM}/queries/{rule}{form}.spl" for form in FORMS)
            texts = [decoded(self._files.get(path, b"")) for path in paths]
        called = dict.fromkeys(n for text in texts for n in _MACRO.findall(text) if n in self._macros)
        for name in list(called):
            definition = self._macros[name].get("definition", "")
            called |= dict.fromkeys(n for n in _MACRO.findall(definition) if n in self._macros)
        names = sorted(called, key=lambda name: not name.startswith(f"{rule}_"))
        return [
            Setting(PLATFORM, MACROS, name, self._macros[name].get("definition", ""), "macro")
            for name in names
        ]

    def parts(self, rule: str) -> dict[str, str]:
        return {
            f"{self._app}: [{name}]": json.dumps(self._saved_searches[name], ensure_ascii=False)
            for name in self._searches(rule)
        }

    def _searches(self, rule: str) -> Iterator[str]:
        return (name for name in (rule + form for form in FORMS) if name in self._saved_searches)
