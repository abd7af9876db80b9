"""What Microsoft's products take of a rule for an alert, besides its query."""

from __future__ import annotations

import re
import uuid

from detection_pack.model.rule import Rule


def rule_uuid(rule: Rule, names: uuid.UUID) -> str:
    """The rule's id where it is a UUID, else one made of its name, the same every time in these ``names``."""
    try:
        return str(uuid.UUID(rule.id))
    except ValueError:
        return str(uuid.uuid5(names, rule.name))


def with_credit(rule: Rule, description: str) -> str:
    """A description that says who wrote somebody's rule and under which licence."""
    return f"{description}\n\nSigma rule {rule.credit}." if rule.credit else description


def without_placeholders(text: str) -> str:
    """Text in a format, in which two braces in a row would begin or end the name of a column."""
    return re.sub(r"\{(?=\{)|\}(?=\})", lambda brace: brace[0] + " ", text)
