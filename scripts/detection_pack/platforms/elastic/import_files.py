"""What people import into Elastic, read back: Kibana's rules, and the Discover sessions to hunt with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from detection_pack.platforms.elastic.hunts import HUNTS, read_hunts
from detection_pack.platforms.elastic.imports import PATH, PLATFORM, name_of
from detection_pack.platforms.platform import ImportFiles, Setting
from detection_pack.platforms.settings import chosen, decoded, readable

#: What decides when a rule runs, on what, and what becomes of a result. Prose is left out.
_SETTINGS = (
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
_OF_HUNTS = ("type", "index", "from")


class ElasticImports(ImportFiles):
    """The Kibana rules and the sessions. Their queries have no parameters: Kibana's own form changes them."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._rules: dict[str, list[dict[str, Any]]] = {}
        self._hunts: dict[str, list[dict[str, Any]]] = {}
        with readable(PATH):
            for line in filter(None, decoded(files.get(PATH, b"")).split("\n")):
                made = json.loads(line)
                if "rule_id" in made and isinstance(made["type"], str):
                    self._rules.setdefault(name_of(made), []).append(made)
        with readable(HUNTS):
            for hunt in read_hunts(decoded(files.get(HUNTS, b""))):
                self._hunts.setdefault(name_of(hunt), []).append(hunt)

    def schedules(self, rule: str) -> list[Setting]:
        rules = [
            setting
            for made in self._rules.get(rule, ())
            for setting in chosen(PLATFORM, made["type"], made, _SETTINGS, f"{made['type']} rule")
        ]
        hunts = (
            chosen(PLATFORM, HUNTS, hunt, _OF_HUNTS, "Discover session") for hunt in self._hunts.get(rule, ())
        )
        return [*rules, *(setting for found in hunts for setting in found)]

    def parameters(self, rule: str) -> list[Setting]:
        return []

    def parts(self, rule: str) -> dict[str, str]:
        rules = {f"{PATH}: {made['type']}": made for made in self._rules.get(rule, ())}
        hunts = {f"{HUNTS}: {hunt['type']}": hunt for hunt in self._hunts.get(rule, ())}
        return {part: json.dumps(made, ensure_ascii=False) for part, made in (rules | hunts).items()}
