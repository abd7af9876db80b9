"""What an import sets besides the query's text: schedules, thresholds, knobs, out of the files of dist/."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from detection_pack.findings import PackError
from detection_pack.platforms.elastic.rules import NAME_TAG
from detection_pack.platforms.elastic.rules import PATH as KIBANA_RULES
from detection_pack.platforms.splunk.app import APP, FORMS
from detection_pack.platforms.splunk.conf import Stanzas, read_conf

#: What decides when an import runs, on what, and what becomes of a result. Prose is left out.
_ANALYTICS = (
    "severity",
    "status",
    "queryFrequency",
    "queryPeriod",
    "triggerOperator",
    "triggerThreshold",
    "entityMappings",
    "eventGroupingSettings",
    "kind",
)
_SAVED_SEARCH = (
    "disabled",
    "enableSched",
    "cron_schedule",
    "dispatch.earliest_time",
    "dispatch.latest_time",
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
_KIBANA_RULE = (
    "type",
    "enabled",
    "severity",
    "risk_score",
    "language",
    "index",
    "interval",
    "from",
    "to",
    "timestamp_override",
    "threshold",
    "alert_suppression",
    "max_signals",
)
_LET = re.compile(r"^let (\w+) = (.+);$", re.MULTILINE)
_MACRO = re.compile(r"`(\w+)`")


@dataclass(frozen=True)
class Setting:
    """One setting of a rule on a platform. ``of`` names what it belongs to: a file of dist/, a saved search
    or the type of a Kibana rule. ``value`` is text, or JSON where it is not text."""

    platform: str
    of: str
    key: str
    value: str


def schedule_settings(files: Mapping[str, bytes], rule: str) -> list[Setting]:
    """How the imports of a rule run; ``files`` are those of dist/. Raises `PackError` for a file that is none
    of ours."""
    try:
        return [*_analytics(files, rule), *_saved_searches(files, rule), *_kibana_rules(files, rule)]
    except (ValueError, KeyError, TypeError, AttributeError, tarfile.TarError, yaml.YAMLError) as error:
        what = f"holds an import of {rule} that cannot be read ({str(error).splitlines()[0]})"
        raise PackError.at("dist", 1, what, "run detection-pack build") from error


def knobs(files: Mapping[str, bytes], rule: str) -> list[Setting]:
    """What a site may turn in the queries of a rule: the ``let`` lines of the KQL, the macros of the SPL.

    Macros that the queries of all rules share come last.
    """
    found = []
    path = f"sentinel/queries/{rule}.kql"
    if path in files:
        found += [Setting("sentinel", path, name, value) for name, value in _LET.findall(_text(files[path]))]
    macros = read_conf(_text(files.get("splunk/macros.conf", b"")))
    called = [
        name
        for path in sorted(files)
        if path.startswith(f"splunk/queries/{rule}.")
        for name in _MACRO.findall(_text(files[path]))
    ]
    shared = dict.fromkeys(name for name in called if name in macros)
    for name in list(shared):
        shared |= dict.fromkeys(n for n in _MACRO.findall(macros[name]["definition"]) if n in macros)
    own = [name for name in shared if name.startswith(f"{rule}_")]
    ordered = [*own, *(name for name in shared if name not in own)]
    return found + [
        Setting("splunk", "splunk/macros.conf", name, macros[name]["definition"]) for name in ordered
    ]


def imported_parts(files: Mapping[str, bytes], rule: str) -> dict[str, str]:
    """What the files that hold every rule hold of this one, as JSON, by file and place in it: its saved
    searches and its Kibana rules. (The ARM template repeats the analytics rule.)"""
    parts = {f"{KIBANA_RULES}: {made['type']}": made for made in _kibana(files, rule)}
    app = next((path for path in sorted(files) if path.startswith(f"splunk/{APP}-")), "")
    stanzas = _app_conf(files, "savedsearches.conf")
    for name in (rule + form for form in FORMS):
        if name in stanzas:
            parts[f"{app}: [{name}]"] = stanzas[name]
    return {place: json.dumps(held, ensure_ascii=False) for place, held in parts.items()}


def _analytics(files: Mapping[str, bytes], rule: str) -> Iterator[Setting]:
    path = f"sentinel/analytics/{rule}.yaml"
    if path in files:
        yield from _chosen("sentinel", path, yaml.safe_load(_text(files[path])), _ANALYTICS)


def _saved_searches(files: Mapping[str, bytes], rule: str) -> Iterator[Setting]:
    stanzas = _app_conf(files, "savedsearches.conf")
    for name in (rule + form for form in FORMS):
        yield from _chosen("splunk", name, stanzas.get(name, {}), _SAVED_SEARCH)


def _kibana_rules(files: Mapping[str, bytes], rule: str) -> Iterator[Setting]:
    for made in _kibana(files, rule):
        yield from _chosen("elastic", made["type"], made, _KIBANA_RULE)


def _kibana(files: Mapping[str, bytes], rule: str) -> Iterator[dict[str, Any]]:
    for line in _text(files.get(KIBANA_RULES, b"")).split("\n"):
        if line and NAME_TAG + rule in (made := json.loads(line)).get("tags", ()):
            yield made


def _chosen(platform: str, of: str, found: Mapping[str, Any], keys: Iterable[str]) -> Iterator[Setting]:
    for key in keys:
        if key in found:
            value = found[key]
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
            yield Setting(platform, of, key, shown)


def _app_conf(files: Mapping[str, bytes], name: str) -> Stanzas:
    for path in sorted(files):
        if path.startswith(f"splunk/{APP}-") and path.endswith(".tgz"):
            with tarfile.open(fileobj=io.BytesIO(files[path]), mode="r:gz") as archive:
                member = archive.extractfile(f"{APP}/default/{name}")
                return read_conf(_text(member.read())) if member else {}
    return {}


def _text(content: bytes) -> str:
    return content.decode("utf-8")
