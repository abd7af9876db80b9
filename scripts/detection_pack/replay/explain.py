"""Why a rule fires on one event on every platform, or does not: what each platform says itself.

For each platform: what its ingest makes of the record (`explain_ingest`), what it answers to every item of
the detection, every selection and the condition (`explain_variants`, `explain_runs`), and for a correlation
the group, the window and the count (`explain_correlation`). Nothing is judged here by other means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection_pack.model.event import Event
from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.pack import Pack
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.platforms.fields import ComparedField, compared_fields
from detection_pack.platforms.platform import Platform, Stored, platform
from detection_pack.platforms.rows import COMMON
from detection_pack.replay.explain_correlation import CorrelationExplained, correlation_explained
from detection_pack.replay.explain_ingest import IngestedRecord, ingested_record
from detection_pack.replay.explain_runs import Answers, Asked
from detection_pack.replay.explain_variants import (
    ITEM,
    ItemVariant,
    RuleVariants,
    SelectionVariant,
    counting_each,
    counting_from_one,
    in_every_window,
    showing,
    variants_of,
)

#: The column of the alert view that `showing` fills.
_SHOWN = "ExtraInfo"


@dataclass(frozen=True)
class ComparedValue:
    """What a condition compares: the platform's field and its value in the stored event, None where it has
    none. ``expression``: what the query computes of it first, in the platform's language."""

    field: str
    value: Any
    expression: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a platform says to a question: true or false, or why it refuses it when it stands alone."""

    holds: bool | None
    refused: str | None = None


@dataclass(frozen=True)
class ItemExplained:
    """A detection item. ``key``: as the rule writes it, with modifiers; None for keywords."""

    key: str | None
    wanted: tuple[Any, ...]
    compared: tuple[ComparedValue, ...]
    answer: Answer


@dataclass(frozen=True)
class SelectionExplained:
    name: str
    items: tuple[ItemExplained, ...]
    answer: Answer


@dataclass(frozen=True)
class RuleExplained:
    """One rule of the file, on one platform; ``answer`` is that to its whole condition."""

    name: str
    condition: str
    selections: tuple[SelectionExplained, ...]
    answer: Answer


@dataclass(frozen=True)
class PlatformExplained:
    """One platform. ``refused``: why it cannot say the rule at all; then nothing is asked of it."""

    id: str
    title: str
    files: tuple[str, ...]
    ingest: IngestedRecord
    rules: tuple[RuleExplained, ...] = ()
    correlation: CorrelationExplained | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Explanation:
    """A rule and an event on every platform. ``origin``: where the event stands."""

    rule: Rule
    event: Event
    origin: str
    platforms: tuple[PlatformExplained, ...]


def explain(
    pack: Pack, rule: Rule, event: Event, origin: str, context: Sequence[Event], platforms: Sequence[str]
) -> Explanation:
    """``context``: the events that a correlation may count together with this one, itself among them."""
    asking = _Asking(pack, rule, event, context)
    return Explanation(rule, event, origin, tuple(asking.on(platform(name)) for name in platforms))


class _Asking:
    def __init__(self, pack: Pack, rule: Rule, event: Event, context: Sequence[Event]) -> None:
        self._pack = pack
        self._rule = rule
        self._event = event
        self._context = context
        self._sources: Sequence[LogSource] = tuple(pack.sources.values())
        self._taken_apart = variants_of(rule)

    def on(self, here: Platform) -> PlatformExplained:
        ingest = ingested_record(here, self._event, self._sources)
        files = model_files(self._event.source, here.id)
        refused = self._refusal(here)
        if refused is not None:
            return PlatformExplained(here.id, here.title, files, ingest, refused=refused)
        asked = [variant.rule for one in self._taken_apart for variant in one.every]
        makers = (counting_each, counting_from_one, in_every_window)
        counting = [make(self._rule) for make in makers] if self._counts else []
        with Asked(
            here,
            [self._rule, *asked, *filter(None, counting)],
            self._pack.pipelines,
            self._sources,
        ) as questions:
            answers = questions.run([self._event], [one.name for one in asked])
            pipeline = self._pack.pipelines[here.id]
            told = _Told(answers, pipeline, self._event, ingest.stored, self._computed(here))
            rules = tuple(told.rule(one) for one in self._taken_apart)
            correlation = (
                correlation_explained(questions, self._rule, self._event, self._context)
                if self._counts
                else None
            )
        return PlatformExplained(here.id, here.title, files, ingest, rules, correlation)

    def _computed(self, here: Platform) -> Mapping[str, Any]:
        """What the platform's queries compute before they compare it, by the platform's field."""
        pipeline = self._pack.pipelines[here.id]
        computed: dict[str, Any] = {}
        for one in self._taken_apart:
            fields = [f for s in one.selections for item in s.items for f in item.fields]
            rules = showing(self._rule, one, list(dict.fromkeys(fields)))
            named = {field: _fields(rule, pipeline, ITEM) for field, rule in rules.items()}
            wanted = [rules[f] for f, listed in named.items() if any(c.expression for c in listed)]
            if not wanted:
                continue
            with Asked(here, wanted, self._pack.pipelines, self._sources) as questions:
                answers = questions.run([self._event])
            for field, rule in rules.items():
                rows = [row for hit in answers.hits.get(rule.name, ()) for row in hit.rows]
                if rows:
                    computed |= {c.name: rows[0][_SHOWN] for c in named[field] if c.expression}
        return computed

    @property
    def _counts(self) -> bool:
        return self._rule.correlation is not None

    def _refusal(self, here: Platform) -> str | None:
        try:
            here.part(self._rule, self._pack.pipelines, self._pack.version)
        except PackError as error:
            return error.findings[0].what
        return None


def model_files(source: LogSource, platform_id: str) -> tuple[str, ...]:
    """The files of a log source that say what the platform's ingest does, as people know them."""
    paths = [Path(source.folder / f"{name}.sql") for name in (COMMON, platform_id)]
    return tuple(f"{source.folder.parent.name}/{source.name}/{p.name}" for p in paths if p.is_file())


class _Told:
    """One platform's answers put beside what was asked."""

    def __init__(
        self,
        answers: Answers,
        pipeline: Pipeline,
        event: Event,
        stored: Sequence[Stored],
        computed: Mapping[str, Any],
    ) -> None:
        self._computed = computed
        self._answers = answers
        self._pipeline = pipeline
        self._event = event
        self._stored: Mapping[str, Any] = stored[0].fields if stored else {}

    def rule(self, asked: RuleVariants) -> RuleExplained:
        selections = tuple(self._selection(one) for one in asked.selections)
        return RuleExplained(asked.name, asked.condition, selections, self._answer(asked.whole.rule))

    def _selection(self, asked: SelectionVariant) -> SelectionExplained:
        items = tuple(self._item(one) for one in asked.items)
        return SelectionExplained(asked.name, items, self._answer(asked.variant.rule))

    def _item(self, asked: ItemVariant) -> ItemExplained:
        wanted = tuple(value for _, value in asked.leaf.values)
        rule = asked.variant.rule
        fields = () if asked.leaf.field is None else _fields(rule, self._pipeline, ITEM)
        compared = tuple(ComparedValue(f.name, self._value(f), f.expression) for f in fields)
        return ItemExplained(asked.leaf.key, wanted, compared, self._answer(rule))

    def _value(self, field: ComparedField) -> Any:
        return (self._computed if field.expression else self._stored).get(field.name)

    def _answer(self, rule: Rule) -> Answer:
        return Answer(self._answers.finds(rule, self._event.id), self._answers.refused.get(rule.name))


def _fields(rule: Rule, pipeline: Pipeline, detection: str) -> tuple[ComparedField, ...]:
    """None where the pipeline refuses the rule: why stands in the platform's answer."""
    try:
        return compared_fields(rule, pipeline, detection)
    except PackError:
        return ()
