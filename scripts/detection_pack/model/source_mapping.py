"""What a pipeline says of one log source, read off its items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sigma.correlations import SigmaCorrelationRule
from sigma.rule import SigmaRule


@dataclass(frozen=True)
class SourceMapping:
    """The canonical fields of a log source on one platform.

    ``names``: the platform's names of each field that is mapped. ``split``: the fields whose values are
    looked for in several of the platform's at once. ``absent``: why the platform has no such field (the
    pipeline's state ``absent_fields``). ``enumerations``: the values of each field whose values are mapped
    one by one. ``digests``: the fields whose text is taken apart into digests. ``domain_users``: see `users`.
    """

    names: Mapping[str, tuple[str, ...]]
    split: frozenset[str]
    absent: Mapping[str, str]
    enumerations: Mapping[str, frozenset[str]]
    digests: frozenset[str] = frozenset()
    domain_users: Mapping[str, str] = field(default_factory=dict)

    @property
    def fields(self) -> frozenset[str]:
        return frozenset(self.names)


def source_mapping(items: Sequence[Any]) -> SourceMapping:
    """From the pySigma processing items of a log source, in their order."""
    names: dict[str, tuple[str, ...]] = {}
    split: set[str] = set()
    absent: dict[str, str] = {}
    enumerations: dict[str, frozenset[str]] = {}
    digests: set[str] = set()
    users: dict[str, str] = {}
    for item in items:
        step = item.transformation
        match type(step).__name__:
            case "FieldMappingTransformation":
                for name, mapped in step.mapping.items():
                    listed = (mapped,) if isinstance(mapped, str) else tuple(mapped)
                    names[str(name)] = names.get(str(name), ()) + listed
                    split |= {str(name)} if len(listed) > 1 else set()
            case "HashesFieldsDetectionItemTransformation":
                digests |= set(step.field_to_parse)
            case "SetStateTransformation" if step.key == "absent_fields":
                absent |= {str(name): str(reason) for name, reason in step.val.items()}
            case "SetStateTransformation" if step.key == "domain_users":
                users |= {str(name): str(parts) for name, parts in step.val.items()}
            case "MapStringTransformation":
                conditions = item.field_name_conditions
                stated = conditions.values() if isinstance(conditions, dict) else conditions
                values = frozenset(map(str, step.mapping))
                for name in (name for condition in stated for name in getattr(condition, "fields", ())):
                    enumerations[name] = enumerations.get(name, frozenset()) | values
    # A platform that keeps both parts in one field maps no field of the parts.
    users = {name: parts for name, parts in users.items() if parts in names}
    return SourceMapping(names, frozenset(split | digests), absent, enumerations, frozenset(digests), users)


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
