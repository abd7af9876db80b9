"""What a team expects of rules on a corpus of its own, and whether it came out: a gate for its CI.

A file of expectations is YAML, by the name of a rule: ``at_least``, ``at_most``, ``exactly``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from detection_pack.model.documents import load_documents
from detection_pack.model.findings import Finding, PackError

_BOUNDS = ("at_least", "at_most", "exactly")
_TODO = "write at_least, at_most or exactly with a whole number"
#: What XML 1.0 cannot hold.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Expectation:
    """How often a rule must hit; ``bounds`` from at_least, at_most and exactly to a number."""

    rule: str
    path: Path
    line: int
    bounds: Mapping[str, int]

    def failure(self, hits: Sequence[int]) -> str | None:
        """Why the hits that the platforms found, one number each that ran the rule, are not what is expected;
        None where all of them are."""
        if not hits:
            return "ran on no platform"
        low = self.bounds.get("exactly", self.bounds.get("at_least", 0))
        high = self.bounds.get("exactly", self.bounds.get("at_most"))
        said = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in self.bounds.items())
        for number in hits:
            if number < low or (high is not None and number > high):
                return f"expected {said}, found {number}"
        return None


def load_expectations(path: Path, rules: Iterable[str]) -> list[Expectation]:
    """The expectations of a file; ``rules`` are the names that were run. Raises `PackError`."""
    known = sorted(rules)
    documents = load_documents(path)
    if len(documents) != 1 or not isinstance(documents[0].data, dict) or not documents[0].data:
        raise PackError.at(path, 1, "holds no expectations", "write the name of a rule and what it must find")
    [document] = documents
    faults: list[Finding] = []
    found = []
    for rule, stated in document.data.items():
        line = document.line(rule)
        if rule not in known:
            faults.append(
                Finding(str(path), line, f'has no rule "{rule}" to expect of', f"use {', '.join(known)}")
            )
        elif not isinstance(stated, dict) or not stated:
            faults.append(Finding(str(path), line, f'says nothing of "{rule}"', _TODO))
        else:
            wrong = [
                name
                for name, number in stated.items()
                if name not in _BOUNDS
                or isinstance(number, bool)
                or not isinstance(number, int)
                or number < 0
            ]
            if wrong or ("exactly" in stated and len(stated) > 1):
                faults.append(
                    Finding(str(path), line, f'"{rule}" has an expectation that cannot be read', _TODO)
                )
            else:
                found.append(Expectation(rule, path, line, stated))
    if faults:
        raise PackError(faults)
    return found


def failures(expected: Iterable[Expectation], hits: Mapping[str, Sequence[int]]) -> list[Finding]:
    """What did not come out, one finding an expectation."""
    return [
        Finding(
            str(one.path), one.line, f"{one.rule}: {failure}", "look at the hits, or correct the expectation"
        )
        for one in expected
        if (failure := one.failure(hits[one.rule])) is not None
    ]


def junit(expected: Iterable[Expectation], hits: Mapping[str, Sequence[int]]) -> str:
    """The same as JUnit XML (the schema of Jenkins' xUnit plugin), a test case an expectation."""
    listed = list(expected)
    suite = ElementTree.Element("testsuite", name="detection-pack replay", tests=str(len(listed)), errors="0")
    failed = 0
    for one in listed:
        case = ElementTree.SubElement(suite, "testcase", classname="replay", name=_plain(one.rule))
        if (failure := one.failure(hits[one.rule])) is not None:
            failed += 1
            ElementTree.SubElement(case, "failure", message=_plain(failure), type="expectation")
    suite.set("failures", str(failed))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _plain(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
