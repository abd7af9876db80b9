"""What a rule raised in the benign month: the figures that scripts/bench.py has written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detection_pack.languages.markdown import link, table
from detection_pack.model.documents import load_documents
from detection_pack.model.rule import Rule

DATA = Path("reference") / "month" / "figures.yml"
_ABOUT = "../../reference/month/README.md"
_KINDS = {
    "without_filters": "without its named filters",
    "as_shipped": "as shipped",
    "with_site_filters": "with the filters that the organisation has switched on",
}


@dataclass(frozen=True)
class MonthFigures:
    """``month`` says how large it is, ``rules`` has the figures by the rule's name; both are empty for a pack
    that was not measured."""

    month: Mapping[str, Any] = field(default_factory=dict)
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def section(self, rule: Rule) -> Iterator[str]:
        """How often the rule alerts; nothing for a rule that was not counted."""
        if (found := self.rules.get(rule.name)) is None:
            return
        yield "## How often it alerts"
        yield (
            f"Alerts a week in {self.month['weeks']} weeks of an organisation of {self.month['mailboxes']:,} "
            f"mailboxes in which nothing is wrong ({link('how it is made', _ABOUT)}):"
        )
        yield table(tuple(_KINDS.values()), [tuple(f"{found['a_week'][kind]:,g}" for kind in _KINDS)])

    def of_false_positive(self, rule: Rule, number: int) -> str:
        """What a rule's false positive, counted from 1, raised there as a sentence; empty where that is not
        known."""
        known: Mapping[int, float] = self.rules.get(rule.name, {}).get("falsepositives", {})
        return f" (In that month: {known[number]:,g} a week.)" if number in known else ""


def month_figures(root: Path) -> MonthFigures:
    """The figures of a pack. Raises `PackError` for a file that cannot be read."""
    path = root / DATA
    if not path.is_file():
        return MonthFigures()
    [document] = load_documents(path)
    return MonthFigures(document.data["month"], document.data["rules"])
