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

from detection_pack.languages.conf import Stanzas, read_conf
from detection_pack.model.findings import PackError
from detection_pack.platforms.elastic.rules import NAME_TAG
from detection_pack.platforms.elastic.rules import PATH as KIBANA_RULES
from detection_pack.platforms.splunk.app import APP, FORMS

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
_UNREADABLE = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    tarfile.TarError,
    yaml.YAMLError,
)


@dataclass(frozen=True)
class Setting:
    """One setting of a rule on a platform. ``of`` names what it belongs to: a file of dist/, a saved search
    or the type of a Kibana rule. ``value`` is text, or JSON where it is not text."""

    platform: str
    of: str
    key: str
    value: str


class Imports:
    """What teams import of a build, read once: ``files`` are those of dist/.

    Raises `PackError` for a file that is none of ours.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files
        self.app = next(
            (p for p in sorted(files) if p.startswith(f"splunk/{APP}-") and p.endswith(".tgz")), ""
        )
        try:
            self._macros = read_conf(_text(files.get("splunk/macros.conf", b"")))
            self._saved_searches = self._app_conf("savedsearches.conf")
            self._kibana = self._kibana_rules()
        except _UNREADABLE as error:
            raise self._not_ours(error) from error

    def schedules(self, rule: str) -> list[Setting]:
        """How the imports of a rule run."""
        path = f"sentinel/analytics/{rule}.yaml"
        found: list[Setting] = []
        try:
            if path in self.files:
                found += _chosen("sentinel", path, yaml.safe_load(_text(self.files[path])), _ANALYTICS)
            for name in (rule + form for form in FORMS):
                found += _chosen("splunk", name, self._saved_searches.get(name, {}), _SAVED_SEARCH)
            for made in self._kibana.get(rule, ()):
                found += _chosen("elastic", made["type"], made, _KIBANA_RULE)
        except _UNREADABLE as error:
            raise self._not_ours(error) from error
        return found

    def knobs(self, rule: str) -> list[Setting]:
        """What a site may turn in the queries of a rule: the ``let`` lines of the KQL, the macros of the SPL.

        Macros that the queries of all rules share come last.
        """
        path = f"sentinel/queries/{rule}.kql"
        searches = (f"splunk/queries/{rule}{form}.spl" for form in FORMS)
        try:
            lets = _LET.findall(_text(self.files.get(path, b"")))
            texts = [_text(self.files.get(search, b"")) for search in searches]
        except UnicodeDecodeError as error:
            raise self._not_ours(error) from error
        found = [Setting("sentinel", path, name, value) for name, value in lets]
        called = dict.fromkeys(n for text in texts for n in _MACRO.findall(text) if n in self._macros)
        for name in list(called):
            definition = self._macros[name].get("definition", "")
            called |= dict.fromkeys(n for n in _MACRO.findall(definition) if n in self._macros)
        for name in sorted(called, key=lambda name: not name.startswith(f"{rule}_")):
            value = self._macros[name].get("definition", "")
            found.append(Setting("splunk", "splunk/macros.conf", name, value))
        return found

    def parts(self, rule: str) -> dict[str, str]:
        """What the files that hold every rule hold of this one, as JSON, by file and place in it: its saved
        searches and its Kibana rules. (The ARM template repeats the analytics rule.)"""
        parts: dict[str, object] = {
            f"{KIBANA_RULES}: {made['type']}": made for made in self._kibana.get(rule, ())
        }
        for name in (rule + form for form in FORMS):
            if name in self._saved_searches:
                parts[f"{self.app}: [{name}]"] = self._saved_searches[name]
        return {place: json.dumps(held, ensure_ascii=False) for place, held in parts.items()}

    def _app_conf(self, name: str) -> Stanzas:
        if not self.app:
            return {}
        with tarfile.open(fileobj=io.BytesIO(self.files[self.app]), mode="r:gz") as archive:
            member = archive.extractfile(f"{APP}/default/{name}")
            return read_conf(_text(member.read())) if member else {}

    def _kibana_rules(self) -> dict[str, list[dict[str, Any]]]:
        """The Kibana rules of each Sigma rule, by the name in their tags."""
        found: dict[str, list[dict[str, Any]]] = {}
        for line in filter(None, _text(self.files.get(KIBANA_RULES, b"")).split("\n")):
            made = json.loads(line)
            for tag in made.get("tags", ()):
                if tag.startswith(NAME_TAG) and isinstance(made["type"], str):
                    found.setdefault(tag.removeprefix(NAME_TAG), []).append(made)
        return found

    @staticmethod
    def _not_ours(error: Exception) -> PackError:
        what = f"holds an import that cannot be read ({(str(error) or type(error).__name__).splitlines()[0]})"
        return PackError.at("dist", 1, what, "run detection-pack build")


def _chosen(platform: str, of: str, found: Mapping[str, Any], keys: Iterable[str]) -> Iterator[Setting]:
    for key in keys:
        if key in found:
            value = found[key]
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
            yield Setting(platform, of, key, shown)


def _text(content: bytes) -> str:
    return content.decode("utf-8")
