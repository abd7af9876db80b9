"""A rule as its file states it, and what its parts mean.

pySigma's objects are made here (`Rule.sigma`) and used by the backends of the platforms; nothing else sees
them.
"""

from __future__ import annotations

import copy
import pickle
import re
import uuid
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError

from detection_pack.model.documents import Document
from detection_pack.model.findings import PackError
from detection_pack.model.list_table import ListTable
from detection_pack.model.playbook import Guide
from detection_pack.model.sigma_messages import said_of
from detection_pack.model.windows import CLOCK, EVERY, OVERLAPPING, Overlapping, overlapping

HUNTING, INVESTIGATION = "hunting", "investigation"
TIERS = ("core", "extended", HUNTING, INVESTIGATION)
#: The tiers that a person runs: their rules are never alerts.
BY_HAND = (HUNTING, INVESTIGATION)
DEFAULT_LOOKBACK = "24h"
#: Of the pack's own rules.
PACK_LICENCE = "Detection Rule License 1.1"
#: What to do where nothing better is known.
CHANGE = "change the rule; see CONTRIBUTING.md"
#: What more events can only make more of, so that a condition on "at least" holds on once it holds.
_GROWING = ("event_count", "value_count", "value_sum", "temporal", "temporal_ordered", "temporal_extended")


@dataclass(frozen=True)
class AlertView:
    """What an analyst sees of a hit: the custom key ``alert:`` of a rule, in canonical field names.

    ``detail`` is text with ``{Field}`` placeholders; a correlation also has ``{count}`` and ``{window}``.
    A column that the rule leaves out is the empty string in the result.
    """

    type: str
    detail: str
    user: str | None = None
    source: str | None = None
    agent: str | None = None
    extra: str | None = None

    #: The names of the result columns after the time, in the order of the reference query.
    COLUMNS = ("UserId", "ClientIP", "ClientAgent", "DetectionType", "DetectionDetail", "ExtraInfo")
    #: Of these, the columns that hold a field, and the key of ``alert:`` that names it.
    FIELDS: ClassVar[Mapping[str, str]] = {
        "UserId": "user",
        "ClientIP": "source",
        "ClientAgent": "agent",
        "ExtraInfo": "extra",
    }
    _PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

    @property
    def fields(self) -> tuple[str, ...]:
        """Every canonical field that the view reads, once each, in order of first use."""
        named = [field for field in map(self.field_of, self.COLUMNS) if field]
        named += [f for f in self._PLACEHOLDER.findall(self.detail) if f not in ("count", "window")]
        return tuple(dict.fromkeys(named))

    def field_of(self, column: str) -> str | None:
        """The canonical field that the column holds; None where it is empty or no field."""
        found: str | None = getattr(self, self.FIELDS[column]) if column in self.FIELDS else None
        return found or None

    def expressions(
        self,
        text: Callable[[str], str],
        field: Callable[[str], str],
        placeholder: Callable[[str], str],
        joined: Callable[[list[str]], str],
        empty: str = '""',
    ) -> dict[str, str]:
        """What fills each of `COLUMNS` in a query language: how it says a text, a field, and a placeholder of
        the detail, how it joins the parts of the detail, and its empty text."""
        found: dict[str, str] = {}
        for column in self.COLUMNS:
            if column == "DetectionType":
                found[column] = text(self.type)
            elif column == "DetectionDetail":
                parts = self.detail_parts()
                found[column] = joined([placeholder(part) if named else text(part) for named, part in parts])
            else:
                shown = self.field_of(column)
                found[column] = field(shown) if shown else empty
        return found

    def detail_parts(self) -> tuple[tuple[bool, str], ...]:
        """``detail`` cut at its placeholders: ``(is_placeholder, text or field)``, empty text left out."""
        parts = self._PLACEHOLDER.split(self.detail)
        return tuple((i % 2 == 1, part) for i, part in enumerate(parts) if part or i % 2)


@dataclass(frozen=True)
class Correlation:
    """The facts of a Sigma correlation that other parts need. ``window`` is in seconds, ``windows`` is how it
    counts (see `model.windows`)."""

    type: str
    group_by: tuple[str, ...]
    window: int
    timespan: str
    operator: str
    threshold: int | float
    value_field: str | None
    base_rules: tuple[str, ...]
    windows: str = CLOCK

    @property
    def overlapping(self) -> Overlapping | None:
        """The windows that overlap; None where it counts in windows of the clock."""
        return None if self.windows == CLOCK else overlapping(self.window)

    @property
    def firsts_only(self) -> bool:
        """Whether of windows one after the other, in all of which the condition holds, the first alerts."""
        return self.windows == OVERLAPPING


@dataclass(frozen=True)
class Rule:
    """A Sigma rule, or a correlation with the rules that it correlates, which may stand in other files.

    ``main`` is the document that speaks for it (the correlation if there is one), ``path`` and ``text`` are
    those of its file. ``guide``: what is done after its alert, where the pack's playbook says so. ``lists``:
    the tables of a site that it asks, by the filter that asks (see `model.list_table`).
    """

    name: str
    path: Path
    tier: str
    documents: tuple[Document, ...]
    main: Document
    text: str = field(default="", repr=False, compare=False)
    guide: Guide | None = field(default=None, repr=False, compare=False)
    lists: Mapping[str, ListTable] = field(default_factory=dict, compare=False)

    @property
    def title(self) -> str:
        return str(self.main.data.get("title", self.name))

    @property
    def id(self) -> str:
        """The rule's UUID in its usual form (pySigma takes any that Python's ``UUID`` takes), or nothing."""
        stated = str(self.main.data.get("id", ""))
        try:
            return str(uuid.UUID(stated))
        except ValueError:
            return " ".join("".join(c if c.isprintable() else " " for c in stated).split())

    @property
    def level(self) -> str:
        return str(self.main.data.get("level", "medium"))

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(map(str, self.main.data.get("tags") or ()))

    @property
    def techniques(self) -> tuple[str, ...]:
        """ATT&CK technique ids of the tags, in upper case, in the rule's order."""
        found = (re.fullmatch(r"attack\.(t[0-9]{4}(?:\.[0-9]{3})?)", tag) for tag in self.tags)
        return tuple(match[1].upper() for match in found if match)

    @property
    def licence(self) -> str:
        """The licence that the rule states, else that of the pack's rules; empty for anybody else's."""
        stated = self.main.data.get("license")
        return str(stated) if stated else PACK_LICENCE if self.tier in TIERS else ""

    @property
    def credit(self) -> str:
        """Who wrote somebody's rule and under which licence, in one line; nothing for a rule of the pack,
        whose licence stands beside its artefacts."""
        author = str(self.main.data.get("author") or "") if self.tier not in TIERS else ""
        named = [f"by {author}"] if author else []
        named += [f"licence: {self.licence}"] if self.licence and self.tier not in TIERS else []
        return " ".join("".join(c if c.isprintable() else " " for c in ", ".join(named)).split())

    @property
    def lookback(self) -> str:
        """How far back one run looks: the custom key ``lookback``, a Kusto timespan such as ``24h``."""
        return str(self.main.data.get("lookback", DEFAULT_LOOKBACK))

    @property
    def absent(self) -> Mapping[str, str]:
        """The platforms that the rule is not for, each with the reason: the custom key ``absent``."""
        stated = self.main.data.get("absent")
        return {str(name): str(why) for name, why in stated.items()} if isinstance(stated, dict) else {}

    @property
    def whole_terms(self) -> bool:
        """Whether ``|contains`` finds whole terms, as KQL's ``has`` does: the custom key ``whole_terms``."""
        return self.main.data.get("whole_terms") is True

    @property
    def logsource(self) -> Mapping[str, str]:
        """The log source of the detection (a correlation's is that of the first rule it correlates)."""
        for document in self.documents:
            if isinstance(document.data.get("logsource"), dict):
                return {k: str(v) for k, v in document.data["logsource"].items()}
        return {}

    @cached_property
    def alert(self) -> AlertView:
        """The rule's ``alert:`` view; one without shows its title (`showing`: and what a platform adds)."""
        stated = self.main.data.get("alert")
        if stated is None:
            return AlertView(type=self.title, detail=self.title.replace("{", "(").replace("}", ")"))
        named = {k: str(v) for k, v in stated.items() if k in ("type", "detail") or v not in (None, "")}
        return AlertView(**named)

    def showing(self, view: AlertView) -> Rule:
        """The same rule with this alert view. What is known of its file already stays known."""
        other = copy.copy(self)
        other.__dict__["alert"] = view
        return other

    @cached_property
    def correlation(self) -> Correlation | None:
        """The correlation of this file, or None for a plain rule."""
        found = next((r for r in self.parsed.rules if isinstance(r, SigmaCorrelationRule)), None)
        if found is None:
            return None
        stated = self.main.data["correlation"].get("condition")
        condition = stated if isinstance(stated, dict) else {}
        operator = next((op for op in ("gte", "gt", "lte", "lt", "eq", "neq") if op in condition), "gte")
        return Correlation(
            type=found.type.name.lower(),
            group_by=tuple(found.group_by or ()),
            window=found.timespan.seconds,
            timespan=found.timespan.spec,
            operator=operator,
            threshold=condition.get(operator, len(found.rules or ())),
            value_field=condition.get("field") if isinstance(condition.get("field"), str) else None,
            base_rules=tuple(ref.reference for ref in found.rules or ()),
            windows=self._windows(found.type.name.lower(), operator, stated),
        )

    def _windows(self, kind: str, operator: str, condition: object) -> str:
        """The custom key ``windows``. A condition that more events can undo (``lt``, an average, ``not``)
        would hold at the edge of every burst, so it is asked of windows of the clock, each event once."""
        stated = self.main.data.get("windows")
        if stated in (CLOCK, EVERY):
            return str(stated)
        undone = isinstance(condition, str) and re.search(r"\bnot\b", condition, re.IGNORECASE)
        return OVERLAPPING if kind in _GROWING and operator in ("gte", "gt") and not undone else CLOCK

    @cached_property
    def parsed(self) -> SigmaCollection:
        """pySigma's collection of this file, to be looked at and never changed. Raises `PackError`."""
        try:
            with warnings.catch_warnings():
                # Python warns of an expression that it reads in another way than it may seem; so may Splunk.
                warnings.simplefilter("error", FutureWarning)
                collection = SigmaCollection.from_dicts([copy.deepcopy(d.data) for d in self.documents])
            return collection
        except SigmaError as error:
            raise self.refused(error) from error
        except Exception as error:  # pySigma raises Python's own errors for values of unexpected types
            raise self.refused(SigmaError(f"not a Sigma rule: {error}")) from error

    @cached_property
    def _pickled(self) -> bytes:
        return pickle.dumps(self.parsed, pickle.HIGHEST_PROTOCOL)

    def sigma(self) -> SigmaCollection:
        """A fresh pySigma collection of this file; a pipeline changes the rules that it is applied to.

        It is copied by way of its own pickle, which takes a seventh of the time of a deep copy.
        """
        copied: SigmaCollection = pickle.loads(self._pickled)
        return copied

    @property
    def filter_selections(self) -> frozenset[str]:
        """The names of the selections that Sigma filters have added to its rules."""
        return frozenset(str(keys[-1]) for document in self.documents for keys in document.origins)

    def place_of(self, text: str) -> tuple[Path, int] | None:
        """File and line of the first place that says ``text`` as a key or a value; None where none does."""
        for document in self.documents:
            keys = document.keys_of(text)
            if (line := document.line(*keys)) != document.line():
                return document.path_of(*keys), line
        return None

    def refused(self, error: Exception, subject: str | None = None) -> PackError:
        """A `PackError` for this rule from pySigma's or a backend's complaint about ``subject``."""
        what, todo = said_of(error)
        named = [subject] if subject else re.findall(r"['\"]([^'\"]{2,})['\"]", f"{what}; {todo}")
        places = filter(None, map(self.place_of, named))
        path, line = next(places, (self.path, self.main.line()))
        return PackError.at(path, line, what, todo or CHANGE)
