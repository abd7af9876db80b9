"""Sigma correlations in KQL: every type that KQL can say, over tumbling windows (``bin``).

The stock Kusto backend has none. Windows are aligned to the clock, as in the reference query and in the
stock backends of the other platforms.
"""

from __future__ import annotations

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
from detection_pack.model.refused_value import RefusedValue

#: The columns that a correlation's body leaves for the alert view, besides the group columns.
VALUE, FIRST_SEEN, WINDOW_START, EXTRA = "Value", "FirstSeen", "WindowStart", "Extra"


class KustoCorrelations:
    """The correlation half of the Sentinel backend."""

    correlation_methods: ClassVar[dict[str, str]] = {"summarize": "summarize over clock-aligned windows"}
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

    def __init__(self, *args: Any, prefix: str = "", extra_field: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prefix = prefix
        self.extra_field = extra_field

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
        return [
            "\n".join([self._search(rule, base, correlation_type), *aggregate(rule, correlation_type, state)])
        ]

    # ---- search -------------------------------------------------------------------------------------

    def _search(self, rule: SigmaCorrelationRule, base: list[SigmaRule], correlation_type: str) -> str:
        if len(base) == 1 and not correlation_type.startswith("temporal"):
            return _query(base[0])
        branches = []
        for index, referenced in enumerate(base):
            lines = [_query(referenced), f'| extend EventType = "{index}"']
            branches.append("  (" + "\n".join(lines).replace("\n", "\n  ") + ")")
        return "union\n" + ",\n".join(branches)

    # ---- aggregation and condition ------------------------------------------------------------------

    def _aggregate(
        self, rule: SigmaCorrelationRule, correlation_type: str, state: ConversionState
    ) -> list[str]:
        condition = rule.condition
        assert isinstance(condition, SigmaCorrelationCondition)
        raws = [condition.fieldref] if isinstance(condition.fieldref, str) else list(condition.fieldref or [])
        for raw in raws:
            self._known(raw, state)
        folded = [self._folded(raw, state) for raw in raws]
        aggregate = self.aggregates[correlation_type].format(
            field=_joined(folded),
            raw=_joined(raws),
            percentile=condition.percentile,
        )
        lines = self._summarize(rule, [f"{VALUE} = {aggregate}"], state)
        operator = self.operators_of[condition.op.name]
        return [*lines, f"| where {VALUE} {operator} {self.prefix}Threshold"]

    def _ordered(self, rule: SigmaCorrelationRule, _: str, state: ConversionState) -> list[str]:
        # make_list keeps the order of sorted input (Kusto: "make_list, ordering").
        pattern = ".*".join(str(index) for index in range(len(rule.referenced_rules)))
        lines = self._summarize(rule, ["EventTypes = make_list(EventType)"], state)
        return [
            "| sort by TimeGenerated asc",
            *lines,
            f'| where strcat_array(EventTypes, "") matches regex {kql_string(pattern)}',
            f"| extend {VALUE} = array_length(EventTypes)",
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
        if extra and extra not in (rule.group_by or []):
            # Five values tell an analyst what went on; the whole list could fill the row.
            aggregates.append(f"{EXTRA} = make_set({self._known(extra, state)}, 5)")
        window = f"{WINDOW_START} = bin(TimeGenerated, {self.prefix}Window)"
        groups = [
            _identifier(field)
            if (folded := self._folded(self._known(field, state), state)) == field
            else f"{field} = {folded}"
            for field in rule.group_by or []
        ]
        joined = ",\n    ".join(aggregates)
        return [f"| summarize\n    {joined}\n    by {', '.join([*groups, window])}"]

    def _known(self, column: str, state: ConversionState) -> str:
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
