"""Sigma correlations in KQL: every type that KQL can say.

The stock Kusto backend has none. A rule that asks for windows of the clock, as the reference does, is
summarized by ``bin``. In any other windows overlap: ``mv-expand`` puts an event into each window that it
stands in, and of windows one after the other in which the condition holds the first is left: each marks its
successor, and what is marked is dropped. No join, no ``prev``: the cost grows with the events alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sigma.conversion.state import ConversionState
from sigma.correlations import (
    SigmaCorrelationCondition,
    SigmaCorrelationRule,
    SigmaExtendedCorrelationCondition,
    SigmaRuleReference,
)
from sigma.rule import SigmaRule

from detection_pack.languages.kql.kql_literals import kql_string
from detection_pack.languages.kql.named_value import column_name
from detection_pack.model.refused_value import RefusedValue
from detection_pack.model.windows import Overlapping
from detection_pack.platforms.aliases import COUNTED_BY_ALIAS, PREFIX, rule_key

#: The columns that a correlation's body leaves for the alert view, besides the group columns.
VALUE, FIRST_SEEN, WINDOW_START, EXTRA = "Value", "FirstSeen", "WindowStart", "Extra"
_BACK, _ON = "StepsBack", "StepsOn"


class KustoCorrelations:
    """The correlation half of the Sentinel backend."""

    correlation_methods: ClassVar[dict[str, str]] = {"summarize": "summarize by group and window"}
    default_correlation_method: ClassVar[str] = "summarize"

    #: {field}: the counted expression, {raw}: the column, {percentile}: of value_percentile. The counted
    #: value is empty where the field is absent, and an absent value is not a value. dcount's highest
    #: accuracy (4) errs by 0.2 % and is exact for the small counts that a threshold asks about.
    aggregates: ClassVar[dict[str, str]] = {
        "event_count": "count()",
        "value_count": "dcountif({field}, isnotempty({raw}), 4)",
        "value_sum": "sum(todouble({raw}))",
        "value_avg": "avg(todouble({raw}))",
        "value_percentile": "percentile(todouble({raw}), {percentile})",
        "value_median": "percentile(todouble({raw}), 50)",
        "temporal": "dcount(EventType, 4)",
    }
    operators_of: ClassVar[dict[str, str]] = {
        "LT": "<",
        "LTE": "<=",
        "GT": ">",
        "GTE": ">=",
        "EQ": "==",
        "NEQ": "!=",
    }
    used_columns: set[str]
    #: Of the column of each alias the field by rule (`platforms.aliases`).
    aliases: Mapping[str, Mapping[str, str]] = {}

    def __init__(
        self,
        *args: Any,
        prefix: str = "",
        extra_field: str | None = None,
        shown_fields: Sequence[str] = (),
        overlapping: Overlapping | None = None,
        firsts_only: bool = False,
        **kwargs: Any,
    ) -> None:
        """``shown_fields``: the columns that the alert view reads besides ``extra_field``."""
        super().__init__(*args, **kwargs)
        self.prefix = prefix
        self.extra_field = extra_field
        self.shown_fields = shown_fields
        self.overlapping = overlapping
        self.firsts_only = firsts_only

    def convert_correlation_rule_from_template(
        self, rule: SigmaCorrelationRule, correlation_type: str, method: str
    ) -> list[str]:
        """Search, aggregation and condition of one correlation, without the alert view."""
        base = _base_rules(rule)
        state = base[0].get_conversion_states()[0]
        if correlation_type == "value_percentile" and (
            not isinstance(rule.condition, SigmaCorrelationCondition) or rule.condition.percentile is None
        ):
            raise RefusedValue("value_percentile needs a percentile", "condition")
        aggregate = {
            "temporal_ordered": self._ordered,
            "temporal_extended": self._extended,
            "temporal_ordered_extended": self._refused,
        }.get(correlation_type, self._aggregate)
        lines = [
            self._search(rule, base, correlation_type),
            *self._expanded(),
            *aggregate(rule, correlation_type, state),
        ]
        if self.firsts_only:
            lines += self._firsts(rule, state)
        return ["\n".join(lines)]

    # ---- search -------------------------------------------------------------------------------------

    def _search(self, rule: SigmaCorrelationRule, base: list[SigmaRule], correlation_type: str) -> str:
        if not correlation_type.startswith("temporal"):
            texts = list(dict.fromkeys(self._with_aliases(one) for one in base))
            tables = {_table(text): [t for t in texts if _table(t) == _table(text)] for text in texts}
            queries = [_either(own) for own in tables.values()]
            if len(queries) == 1:
                return queries[0]
            indented = ["  (" + query.replace("\n", "\n  ") + ")" for query in queries]
            return "union\n" + ",\n".join(indented)
        branches = []
        for index, referenced in enumerate(base):
            lines = [self._with_aliases(referenced), f'| extend EventType = "{index}"']
            branches.append("  (" + "\n".join(lines).replace("\n", "\n  ") + ")")
        return "union\n" + ",\n".join(branches)

    def _with_aliases(self, rule: SigmaRule) -> str:
        """The query of a rule with the columns of the aliases."""
        state = rule.get_conversion_states()[0]
        columns = {name: fields[rule_key(rule)] for name, fields in self.aliases.items()}
        made = []
        for name, column in columns.items():
            text = self._text(column, state)  # type: ignore[attr-defined]
            folds = set(self.aliases[name].values()) & set(
                state.processing_state.get("identity_fields") or ()
            )
            made.append(f"{name} = {f'tolower({text})' if folds else text}")
        return "\n".join([_query(rule), *(["| extend " + ", ".join(made)] if made else [])])

    # ---- windows that overlap -----------------------------------------------------------------------

    def _expanded(self) -> list[str]:
        """An event once for each window that it stands in."""
        if self.overlapping is None:
            return []
        places, step = ", ".join(map(str, self.overlapping.places)), f"{self.prefix}Step"
        return [
            f"| mv-expand {_BACK} = dynamic([{places}]) to typeof(long)",
            f"| extend {WINDOW_START} = bin(TimeGenerated, {step}) - {_BACK} * {step}",
        ]

    def _firsts(self, rule: SigmaCorrelationRule, state: ConversionState) -> list[str]:
        """Of the windows in which the condition holds those that follow none. One that is left is the only
        row of its group, so that any of its values is the value."""
        kept = [f"{name} = take_any({name})" for name in self._kept(rule, state)]
        groups = [column_name(field) for field in rule.group_by or []]
        window = f"{WINDOW_START} = {WINDOW_START} + {_ON} * {self.prefix}Step"
        columns = ",\n    ".join([*kept, f"{_ON} = max({_ON})"])
        return [
            f"| mv-expand {_ON} = dynamic([0, 1]) to typeof(long)",
            f"| summarize\n    {columns}\n    by {', '.join([*groups, window])}",
            f"| where {_ON} == 0",
        ]

    def _kept(self, rule: SigmaCorrelationRule, state: ConversionState) -> list[str]:
        """The columns besides the groups that the alert view reads."""
        extra = [EXTRA] if self._shows_extra(rule) else []
        return [VALUE, FIRST_SEEN, *extra, *self._shown(rule, state)]

    def _shown(self, rule: SigmaCorrelationRule, state: ConversionState) -> list[str]:
        """The columns of the alert view that neither group nor stand in the extra column."""
        files = dict(state.processing_state.get("file_name_fields") or {})
        shown = dict.fromkeys(self._known(files.get(field, field), state) for field in self.shown_fields)
        return [column for column in shown if column not in (rule.group_by or [])]

    def _shows_extra(self, rule: SigmaCorrelationRule) -> bool:
        return bool(self.extra_field) and self.extra_field not in (rule.group_by or [])

    # ---- aggregation and condition ------------------------------------------------------------------

    def _aggregate(
        self, rule: SigmaCorrelationRule, correlation_type: str, state: ConversionState
    ) -> list[str]:
        condition = rule.condition
        assert isinstance(condition, SigmaCorrelationCondition)
        raws = [condition.fieldref] if isinstance(condition.fieldref, str) else list(condition.fieldref or [])
        raws = [self._known(raw, state) for raw in raws]
        folded = [self._folded(raw, state) for raw in raws]
        aggregate = self.aggregates[correlation_type]
        if len(raws) > 1:
            there = " and ".join(f"isnotempty({raw})" for raw in raws)
            aggregate = f"dcountif({_joined(folded)}, {there}, 4)"
        aggregate = aggregate.format(
            field=_joined(folded),
            raw="".join(raws[:1]),
            percentile=condition.percentile,
        )
        lines = self._summarize(rule, [f"{VALUE} = {aggregate}"], state)
        operator = self.operators_of[condition.op.name]
        return [*lines, f"| where {VALUE} {operator} {self.prefix}Threshold"]

    def _ordered(self, rule: SigmaCorrelationRule, _: str, state: ConversionState) -> list[str]:
        # make_list keeps the order of sorted input (Kusto: "make_list, ordering"). Of one moment the earlier
        # rule comes first, so that what happens at once is in order.
        pattern = ".*".join(str(index) for index in range(len(rule.referenced_rules)))
        counted = [f"{VALUE} = dcount(EventType, 4)", "EventTypes = make_list(EventType)"]
        return [
            "| sort by TimeGenerated asc, EventType asc",
            *self._summarize(rule, counted, state),
            f'| where strcat_array(EventTypes, "") matches regex {kql_string(pattern)}',
        ]

    def _extended(self, rule: SigmaCorrelationRule, _: str, state: ConversionState) -> list[str]:
        assert isinstance(rule.condition, SigmaExtendedCorrelationCondition)
        lines = self._summarize(
            rule, ["EventTypes = make_set(EventType)", f"{VALUE} = dcount(EventType, 4)"], state
        )
        index = {_name(ref): number for number, ref in enumerate(rule.referenced_rules)}
        return [*lines, f"| where {_boolean(rule.condition.parsed, index)}"]

    def _refused(self, *_: Any) -> list[str]:
        raise RefusedValue("an ordered correlation takes a list of rules, not a condition", "condition")

    def _summarize(self, rule: SigmaCorrelationRule, values: list[str], state: ConversionState) -> list[str]:
        extra = self.extra_field
        aggregates = [*values, f"{FIRST_SEEN} = min(TimeGenerated)"]
        if extra and self._shows_extra(rule):
            # Five values tell an analyst what went on; the whole list could fill the row.
            aggregates.append(f"{EXTRA} = make_set({self._known(extra, state)}, 5)")
        aggregates += [f"{column} = make_set({column}, 5)" for column in self._shown(rule, state)]
        window = WINDOW_START
        if self.overlapping is None:
            window = f"{WINDOW_START} = bin(TimeGenerated, {self.prefix}Window)"
        groups = [
            _identifier(column_name(field))
            if (folded := self._folded(self._known(field, state), state)) == column_name(field)
            else f"{column_name(field)} = {folded}"
            for field in rule.group_by or []
        ]
        joined = ",\n    ".join(aggregates)
        return [f"| summarize\n    {joined}\n    by {', '.join([*groups, window])}"]

    def _known(self, column: str, state: ConversionState) -> str:
        if column in self.aliases:
            return column
        return str(self._column(column, state)[0])  # type: ignore[attr-defined]

    @staticmethod
    def _folded(column: str, state: ConversionState) -> str:
        identities = state.processing_state.get("identity_fields") or ()
        return f"tolower({column})" if column in identities else column


def _joined(columns: list[str]) -> str:
    """Several columns as one value; a tab between them, so that ("ab", "c") is not ("a", "bc")."""
    if len(columns) <= 1:
        return "".join(columns)
    separated = ', "\\t", '.join(columns)
    return f"strcat({separated})"


def _base_rules(rule: SigmaCorrelationRule) -> list[SigmaRule]:
    referenced = [r for r in (ref.rule for ref in rule.referenced_rules) if isinstance(r, SigmaRule)]
    if not referenced or len(referenced) != len(rule.referenced_rules):
        raise RefusedValue("a correlation of correlations has no KQL here", "rules")
    return referenced


def _query(rule: SigmaRule) -> str:
    results = rule.get_conversion_result()
    if len(results) != 1:
        raise RefusedValue("a correlated rule must have one condition", "condition")
    return str(results[0])


def _table(query: str) -> str:
    return query.split("\n", maxsplit=1)[0]


def _either(queries: Sequence[str]) -> str:
    """One query for several of one table, so that a row that more than one of them finds is there once."""
    first, *others = steps = [re.split(r"\n(?=\| )", query) for query in queries]
    if not others:
        return queries[0]
    shared = next((n for n, of in enumerate(zip(*steps, strict=False)) if len(set(of)) > 1), None)
    shared = min(map(len, steps)) if shared is None else shared
    computed: dict[str, str] = {}
    conditions: list[str] = []
    for own in steps:
        wheres = [step.removeprefix("| where ") for step in own[shared:] if step.startswith("| where ")]
        conditions.append(" and ".join(f"({one})" for one in wheres))
        for step in (step for step in own[shared:] if not step.startswith("| where ")):
            column = step.split(" = ")[0]
            if computed.setdefault(column, step) != step:
                if f" {PREFIX}" in column:
                    raise RefusedValue(COUNTED_BY_ALIAS, "aliases")
                raise RefusedValue("KQL would count an event that several of the rules match twice", "rules")
    lines = [*first[:shared], *computed.values()]
    if all(conditions):
        lines.append("| where " + "\n    or ".join(f"({one})" for one in conditions))
    return "\n".join(lines)


def _name(reference: SigmaRuleReference) -> str:
    return str(reference.reference)


def _identifier(name: str) -> str:
    if not name.isascii() or not name.isidentifier():
        raise RefusedValue(f'"{name}" cannot name a column', name)
    return name


def _boolean(item: Any, index: dict[str, int]) -> str:
    if isinstance(item, SigmaRuleReference):
        return f'set_has_element(EventTypes, "{index[_name(item)]}")'
    kind = type(item).__name__
    parts = [_boolean(arg, index) for arg in item.args]
    if kind == "CorrelationConditionNOT":
        return f"not({parts[0]})"
    joiner = " and " if kind == "CorrelationConditionAND" else " or "
    return "(" + joiner.join(parts) + ")"
