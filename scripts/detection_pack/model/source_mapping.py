"""What a pipeline says of one log source, read off its items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sigma.correlations import SigmaCorrelationRule
from sigma.rule import SigmaRule
from sigma.types import SigmaString


@dataclass(frozen=True)
class SourceMapping:
    """The canonical fields of a log source on one platform.

    ``names``: the platform's names of each field that is mapped. ``split``: the fields whose values are
    looked for in several of the platform's at once. ``absent``: why the platform has no such field (the
    pipeline's state ``absent_fields``). ``enumerations``: the values of each field whose values are mapped
    one by one. ``digests``: the fields whose text is taken apart into digests. ``domain_users``: see `users`.
    ``prefixes``: the beginnings of the fields that stand for a named value, each with what takes its place.
    """

    names: Mapping[str, tuple[str, ...]]
    split: frozenset[str]
    absent: Mapping[str, str]
    enumerations: Mapping[str, frozenset[str]]
    digests: frozenset[str] = frozenset()
    domain_users: Mapping[str, str] = field(default_factory=dict)
    prefixes: Mapping[str, str] = field(default_factory=dict)

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(self.names)

    def knows(self, field: str) -> bool:
        """Whether the platform has a name for the field."""
        return field in self.names or self.named(field) is not None

    def named(self, field: str) -> str | None:
        """The platform's name for a named value of a list; None for any other field."""
        found = (to + field[len(start) :] for start, to in self.prefixes.items() if field.startswith(start))
        return next(found, None) if field not in self.names and field not in self.prefixes else None


def source_mapping(items: Sequence[Any]) -> SourceMapping:
    """From the pySigma processing items of a log source, in their order."""
    names: dict[str, tuple[str, ...]] = {}
    split: set[str] = set()
    absent: dict[str, str] = {}
    forms: dict[str, _Forms] = {}
    digests: set[str] = set()
    users: dict[str, str] = {}
    prefixes: dict[str, str] = {}
    for item in items:
        step = item.transformation
        match type(step).__name__:
            case "FieldMappingTransformation":
                for name, mapped in step.mapping.items():
                    listed = (mapped,) if isinstance(mapped, str) else tuple(mapped)
                    names[str(name)] = names.get(str(name), ()) + listed
                    split |= {str(name)} if len(listed) > 1 else set()
            case "FieldPrefixMappingTransformation":
                prefixes |= {str(start): str(to) for start, to in step.mapping.items()}
            case "HashesFieldsDetectionItemTransformation":
                digests |= set(step.field_to_parse)
            case "SetStateTransformation" if step.key == "absent_fields":
                absent |= {str(name): str(reason) for name, reason in step.val.items()}
            case "SetStateTransformation" if step.key == "domain_users":
                users |= {str(name): str(parts) for name, parts in step.val.items()}
            case "MapStringTransformation":
                for name in _fields(item):
                    forms[name] = _mapped(forms.get(name, {}), step.mapping)
            case "DetectionItemFailureTransformation" if _by_log_source_alone(item):
                for name in _fields(item):
                    forms |= {name: _passing(forms[name], item)} if name in forms else {}
    enumerations = {name: frozenset(values) for name, values in forms.items()}
    # A platform that keeps both parts in one field maps no field of the parts.
    users = {name: parts for name, parts in users.items() if parts in names}
    split |= digests
    return SourceMapping(names, frozenset(split), absent, enumerations, frozenset(digests), users, prefixes)


#: What each value of an enumeration has become.
_Forms = Mapping[str, tuple[str, ...]]


def _fields(item: Any) -> list[str]:
    """The fields that an item is limited to by name."""
    conditions = item.field_name_conditions
    stated = conditions.values() if isinstance(conditions, dict) else conditions
    return [str(name) for condition in stated for name in getattr(condition, "fields", ())]


def _by_log_source_alone(item: Any) -> bool:
    conditions = item.rule_conditions
    stated = conditions.values() if isinstance(conditions, dict) else conditions
    return all(type(condition).__name__ == "LogsourceCondition" for condition in stated)


def _mapped(forms: _Forms, mapping: Mapping[Any, Any]) -> _Forms:
    """The values after one more table: it maps what they have become, and what it lists itself."""

    def after(form: str) -> tuple[str, ...]:
        to = mapping.get(form, form)
        return (str(to),) if isinstance(to, str | int) else tuple(map(str, to))

    known = {value: tuple(to for form in found for to in after(form)) for value, found in forms.items()}
    return {str(value): after(str(value)) for value in mapping} | known


def _passing(forms: _Forms, item: Any) -> _Forms:
    """The values that an item does not refuse. It is asked only about its one condition on their text."""
    conditions = item.detection_item_conditions
    listed = list(conditions.values()) if isinstance(conditions, dict) else conditions
    if len(listed) != 1 or type(listed[0]).__name__ != "MatchStringCondition":
        return forms
    refuses, negated = listed[0].match_value, bool(item.detection_item_condition_negation)
    return {
        value: found
        for value, found in forms.items()
        if not any(bool(refuses(SigmaString(form))) is not negated for form in found)
    }


def may_apply(item: Any, rule: SigmaRule | SigmaCorrelationRule) -> bool:
    """Whether an item can apply to any rule of this rule's log source.

    What an item asks of a rule besides its log source may hold or not.
    """
    stated = item.rule_conditions
    listed = list(stated.values()) if isinstance(stated, dict) else stated
    if not listed:
        return True
    if item.rule_condition_expression is not None:
        found = _expression(item.rule_condition_expression, rule)
    else:
        found = _linked([_condition(c, rule) for c in listed], item.rule_condition_linking)
    return True in (_negated(found) if item.rule_condition_negation else found)


_Possible = frozenset[bool]
_EITHER: _Possible = frozenset({True, False})


def _condition(condition: Any, rule: SigmaRule | SigmaCorrelationRule) -> _Possible:
    if type(condition).__name__ != "LogsourceCondition":
        return _EITHER
    return frozenset({bool(condition.match(rule))})


def _expression(expression: Any, rule: SigmaRule | SigmaCorrelationRule) -> _Possible:
    """What an expression over conditions can be."""
    match type(expression).__name__:
        case "ConditionIdentifier":
            return _condition(expression._condition, rule)
        case "ConditionNOT":
            return _negated(_expression(expression.condition, rule))
        case kind:
            sides = [_expression(expression.left, rule), _expression(expression.right, rule)]
            return _linked(sides, all if kind == "ConditionAND" else any)


def _linked(sides: Sequence[_Possible], link: Callable[[Sequence[bool]], bool]) -> _Possible:
    # Either some side can decide alone, or all can be the other way.
    decisive = link is any
    one = {decisive} if any(decisive in side for side in sides) else set()
    return frozenset(one | ({not decisive} if all((not decisive) in side for side in sides) else set()))


def _negated(found: _Possible) -> _Possible:
    return frozenset(not value for value in found)
