"""What must be there before a rule finds anything on a platform, as the pipeline's state ``prerequisites``
has it: by table, index pattern or macro what fills it, which setting and licence that takes, and a query
whose answer is empty where the source is silent."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from sigma.rule import SigmaRule

from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule

STATE = "prerequisites"


@dataclass(frozen=True)
class Prerequisite:
    """One place that a query reads. ``source``: the connector, add-on or integration, for people; ``silent``:
    the query; ``more``: how a platform names the connector or package in what it imports."""

    place: str
    source: str
    setting: str
    licence: str
    silent: str
    more: Mapping[str, str] = field(default_factory=dict, compare=False)

    def sentence(self) -> str:
        """All but the query, in one line."""
        return f"{self.source}. {self.setting}. Licence: {self.licence}."


def of_state(state: Mapping[str, Any]) -> tuple[Prerequisite, ...]:
    """The prerequisites of a rule on which the pipeline has reached this state, those that its query reads:
    of indices those of the rule, in its order."""
    stated: Mapping[str, Mapping[str, str]] = state.get(STATE) or {}
    places = [place for place in state.get("index") or stated if place in stated]
    own = {"from", "setting", "licence", "silent"}
    return tuple(
        Prerequisite(
            place,
            about["from"],
            about["setting"],
            about["licence"],
            about["silent"],
            {key: value for key, value in about.items() if key not in own},
        )
        for place in places
        for about in (stated[place],)
    )


def connectors_of(state: Mapping[str, Any], tables: Container[str]) -> tuple[tuple[str, str], ...]:
    """What delivers these tables to Microsoft's products: connector and data type, those that have a name."""
    return tuple(
        (one.more["connector"], one.more["data_type"])
        for one in of_state(state)
        if one.place in tables and "connector" in one.more
    )


def of_rule(rule: Rule, pipeline: Pipeline) -> tuple[Prerequisite, ...]:
    """The same of a rule: of a correlation those of all its rules, each once."""
    found: dict[str, Prerequisite] = {}
    for plain in rule.sigma().rules:
        if isinstance(plain, SigmaRule):
            processing = pipeline.processing()
            # What a rule says is not asked: a pipeline may refuse it, and its place is the same.
            plain.detection.detections.clear()
            processing.apply(plain)
            found |= {one.place: one for one in of_state(processing.state)}
    return tuple(found.values())
