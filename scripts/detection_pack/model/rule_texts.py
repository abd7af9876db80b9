"""Files of rules as far as they can be read: their rules, correlations and filters, none of them judged."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from detection_pack.model.documents import Document, load_documents, read_text
from detection_pack.model.filters import Filter
from detection_pack.model.findings import REFUSED, Finding, PackError
from detection_pack.model.limits import MAX_RULE_BYTES, limit_faults
from detection_pack.model.reading import Reading
from detection_pack.model.refused_forms import old_forms
from detection_pack.model.sigma_faults import SIGMA

#: What begins a filter, as far as a text tells that cannot be read.
_FILTER = re.compile(r"""^[\s{,"'-]*filter["']?\s*:""", re.MULTILINE)
_WORD = re.compile(r"[\w-]+")
_ANY = re.compile(r"""rules["']?\s*:\s*(?:["']?any\b|\[\s*\])""", re.IGNORECASE)


@dataclass(frozen=True)
class RuleText:
    """One file. ``rules`` are its documents with a detection or a correlation; ``findings`` are about the
    file as a whole, and keep every rule in it from being built.

    ``broken``: a document could not be read, which may have been anything. ``beyond``: there is so much in
    it that nothing else may be looked for.
    """

    path: Path
    tier: str
    text: str = field(default="", repr=False)
    rules: tuple[Document, ...] = ()
    filters: tuple[Filter, ...] = ()
    findings: tuple[Finding, ...] = ()
    broken: bool = False
    beyond: bool = False

    @property
    def may_hide_filter(self) -> bool:
        """Whether what could not be read looks like a filter."""
        return self.broken and _FILTER.search(self.text) is not None

    def may_filter(self, document: Document) -> bool:
        """Whether such a filter may be for this rule: its text names it, or any."""
        named = (str(document.data.get(key) or "").lower() for key in ("name", "id"))
        return self._for_any or any(
            name in self._words if _WORD.fullmatch(name) else bool(name) and name in self.text.lower()
            for name in named
        )

    @cached_property
    def _for_any(self) -> bool:
        return _ANY.search(self.text) is not None

    @cached_property
    def _words(self) -> frozenset[str]:
        return frozenset(_WORD.findall(self.text.lower()))


def rule_text(path: Path, tier: str) -> RuleText:
    """One file, whatever is wrong with it."""
    try:
        return _rule_text(path, tier)
    except PackError as error:
        return RuleText(path, tier, findings=error.findings)
    except Exception as error:  # what nobody foresaw in one file must not end the work on the others
        return RuleText(path, tier, findings=(unforeseen(path, 1, "read", error),))


def unforeseen(path: Path, line: int, done: str, error: Exception) -> Finding:
    """What is said of a rule on which the product itself has stumbled."""
    what = f"cannot be {done} ({type(error).__name__}: {error})".split("\n")[0]
    return Finding(str(path), line, what, "write it as the rules of sigma/core are")


def _rule_text(path: Path, tier: str) -> RuleText:
    findings: list[Finding] = []
    text = read_text(path, MAX_RULE_BYTES)
    documents = load_documents(path, text, findings)
    broken = bool(findings)
    rules = tuple(document for document in documents if _is_rule(document))
    beyond = list(limit_faults(d for d in documents if isinstance(d.data, dict)))
    if not beyond:
        findings += (found for document in documents for found in _shape_faults(path, text, document))
    filters = [d for d in documents if isinstance(d.data, dict) and isinstance(d.data.get("filter"), dict)]
    if not rules and not filters and not findings and not beyond:
        findings.append(Finding(str(path), 1, "holds no Sigma rule", "write a rule or remove the file"))
    findings += beyond
    told = tuple(findings)
    return RuleText(
        path, tier, text, rules, tuple(Filter(d, text, told) for d in filters), told, broken, bool(beyond)
    )


def _is_rule(document: Document) -> bool:
    data = document.data
    if not isinstance(data, dict) or "filter" in data:
        return False
    return isinstance(data.get("detection" if "correlation" not in data else "correlation"), dict)


def _shape_faults(path: Path, text: str, document: Document) -> list[Finding]:
    data = document.data
    if not isinstance(data, dict):
        return [Finding(str(path), document.line(), "is not a mapping", "write a Sigma rule")]
    reading = Reading(path, text, None)
    if "filter" in data:
        other = next((key for key in ("correlation", "detection") if key in data), None)
        if other is not None:
            what = f'has a "filter" beside its "{other}"'
            return [reading.at(SIGMA, document, ("filter",), what, "write two documents")]
        if not isinstance(data["filter"], dict):
            todo = "write its rules, selections and condition"
            return [reading.at(SIGMA, document, ("filter",), '"filter" is not a mapping', todo)]
        return []
    if _is_rule(document):
        return []
    todo = "write a rule or a correlation with its rules"
    if "correlation" in data:
        what, todo = '"correlation" is not a mapping', "write its type, rules, timespan and condition"
        return [reading.at(SIGMA, document, ("correlation",), what, todo)]
    old = [reading.at(REFUSED, document, keys, what, todo) for keys, what, todo in old_forms(document)]
    return old or [reading.at(REFUSED, document, ("detection",), 'has no "detection:"', todo)]
