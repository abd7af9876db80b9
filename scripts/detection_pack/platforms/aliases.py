"""Aliases of a correlation: one name for what each of its rules calls differently.

An alias stands in ``group-by`` (Sigma, "Correlation rules", field name aliases). It becomes a column of its
own, as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sigma.correlations import SigmaCorrelationCondition, SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule

from detection_pack.model.rule import Rule

PREFIX = "alias_"
_LONGEST = 40
#: Why a correlation that counts cannot have aliases of rules that read the same records.
COUNTED_BY_ALIAS = (
    "an event that several of these rules match would count once for each, as the alias may mean another "
    "field in each; give them one field, or write one rule"
)


def rule_key(rule: SigmaRule | SigmaCorrelationRule) -> str:
    """What tells the rules of one correlation apart."""
    return str(rule.name or rule.id)


@dataclass(frozen=True)
class Aliases:
    """``stated``: of each alias the canonical field by rule. ``columns``: of its column the platform's field
    by rule (`note`)."""

    stated: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)

    def field(self, name: str, rule: SigmaRule) -> str:
        """The canonical field that a name means in a rule."""
        return self.stated.get(name, {}).get(rule_key(rule), name)

    def note(self, wanted: Sequence[str], rule: SigmaRule) -> None:
        """Put the columns of aliases in place of what the platform calls the rule's fields, which stand in
        the order of ``wanted``."""
        for place, name in enumerate(wanted):
            if (column := self.column(name)) is not None:
                self.columns.setdefault(column, {})[rule_key(rule)] = str(rule.fields[place])
                rule.fields[place] = column

    def column(self, name: str) -> str | None:
        """The column of an alias; None for a field."""
        if name not in self.stated:
            return None
        if name.isascii() and name.isidentifier() and len(name) <= _LONGEST:
            return PREFIX + name
        return f"{PREFIX}{list(self.stated).index(name)}"


def several(columns: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether one of these columns means another field in another rule."""
    return any(len(set(by_rule.values())) > 1 for by_rule in columns.values())


def aliases_of(
    rule: Rule, plain: Sequence[SigmaRule], correlations: Sequence[SigmaCorrelationRule]
) -> Aliases:
    """The aliases of a rule's correlations. Raises `PackError` for one that names no field of a rule, and for
    one that is counted."""
    stated: dict[str, dict[str, str]] = {}
    for correlation in correlations:
        for alias in correlation.aliases:
            named = {reference.reference: str(name) for reference, name in alias.mapping.items()}
            own = stated.setdefault(alias.alias, {})
            for one in plain:
                called = next((n for n in (one.name, str(one.id)) if n and n in named), None)
                if called is None:
                    what = f'the alias "{alias.alias}" names no field of the rule "{rule_key(one)}"'
                    raise rule.refused(SigmaError(f"{what}; name one under aliases"), alias.alias)
                own[rule_key(one)] = named[called]
        condition = correlation.condition
        counted = condition.fieldref if isinstance(condition, SigmaCorrelationCondition) else None
        for name in [counted] if isinstance(counted, str) else counted or ():
            if name in stated:
                what = f'"{name}" is an alias, and aliases stand in group-by alone; count a field'
                raise rule.refused(SigmaError(what), name)
    return Aliases(stated)
