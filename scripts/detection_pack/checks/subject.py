"""The rule under check: read as far as it can be, whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection_pack.checks.catalogue import Keys, found
from detection_pack.model.documents import Document, load_documents, read_text
from detection_pack.model.findings import Finding, PackError, Severity
from detection_pack.model.limits import MAX_RULE_BYTES, check_limits
from detection_pack.model.log_source import LogSource
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.model.rule_reader import NAME, name_of_file, rule_faults


@dataclass(frozen=True)
class Subject:
    """One rule file. ``rule`` may hold any fault but a document that is no mapping.

    ``text`` is the file's. ``in_pack``: one of the pack's own, which must have events and metadata.
    ``faults``: those of the pack's own keys (`pack.rule_faults`).
    """

    path: Path
    text: str
    rule: Rule
    in_pack: bool
    pipelines: Mapping[str, Pipeline]
    sources: Mapping[str, LogSource]
    faults: tuple[Finding, ...] = ()

    def at(
        self,
        check: str,
        document: Document,
        keys: Keys,
        what: str,
        todo: str,
        severity: Severity | None = None,
    ) -> Finding:
        """A finding at the line of ``keys`` in ``document``."""
        return found(check, self.path, document.line(*keys), what, todo, severity)

    def line_within(self, document: Document, keys: Keys, said: str) -> int:
        """The line that says ``said`` inside a value of several lines; the value's own line if none does."""
        first = document.line(*keys)
        later = [line for path, line in document.lines.items() if line > first and path[: len(keys)] != keys]
        lines = self.text.split("\n")
        # YAML ends lines where a text editor does not, at U+2028 say.
        last = min(min(later, default=len(lines) + 1), len(lines) + 1)
        return next((n for n in range(first, last) if said in lines[n - 1]), first)


def read_subject(
    path: Path,
    tier: str,
    in_pack: bool,
    pipelines: Mapping[str, Pipeline],
    sources: Mapping[str, LogSource],
    findings: list[Finding],
) -> Subject | None:
    """Read a rule file; faults of its shape go to ``findings``. None where nothing can be checked, and for
    what is beyond the limits of a rule: looking for faults takes longer than a build."""
    broken: list[Finding] = []
    try:
        text = read_text(path, MAX_RULE_BYTES)
        documents = load_documents(path, text, broken)
        findings += broken
        check_limits(tuple(document for document in documents if isinstance(document.data, dict)))
    except PackError as error:
        findings += error.findings
        return None
    rules = []
    for document in documents:
        fault = _shape_fault(path, document)
        findings += [fault] if fault else []
        if isinstance(document.data, dict) and "filter" not in document.data:
            rules.append(document)
    correlations = [d for d in rules if isinstance(d.data.get("correlation"), dict)]
    if not rules:
        if not findings:
            findings.append(
                found("refused", path, 1, "holds no Sigma rule", "write a rule or remove the file")
            )
        return None
    surplus = correlations[1:] if correlations else rules[1:]
    # Where a document could not be read, it may have been the correlation.
    for document in surplus if not broken else ():
        what, todo = "holds more than one rule", "write one rule a file, or a correlation with its rules"
        findings.append(found("refused", path, document.line(), what, todo))
    main = correlations[0] if correlations else rules[0]
    name = path.stem if in_pack else name_of_file(path)
    if in_pack and main.data.get("name") != name and not broken:
        what = f'the name "{main.data.get("name")}" is not the file\'s'
        findings.append(
            found("rule-name", path, main.line("name"), what, f'write "name: {name}" or rename the file')
        )
    if not NAME.fullmatch(name):
        todo = "use 3 to 64 of a-z, 0-9 and _, a letter first"
        findings.append(found("rule-name", path, main.line("name"), f'"{name}" cannot name a rule', todo))
    rule = Rule(name, path, tier, tuple(d for d in rules if d not in surplus or d is main), main)
    faults = tuple(rule_faults(rule))
    findings += faults
    return Subject(path, text, rule, in_pack, pipelines, sources, faults)


def _shape_fault(path: Path, document: Document) -> Finding | None:
    data = document.data
    if not isinstance(data, dict):
        return found("refused", path, document.line(), "is not a mapping", "write a Sigma rule")
    if "correlation" in data:
        if isinstance(data["correlation"], dict):
            return None
        what, todo = '"correlation" is not a mapping', "write its type, rules, timespan and condition"
        return found("sigma", path, document.line("correlation"), what, todo)
    if isinstance(data.get("detection"), dict):
        return None
    what = "is a Sigma filter" if "filter" in data else 'has no "detection:"'
    line = document.line("filter" if "filter" in data else "detection")
    return found("refused", path, line, what, "write a rule or a correlation with its rules")


@dataclass(frozen=True)
class Leaf:
    """One item of a detection: ``keys`` is its place, ``field`` None for a keyword, ``values`` each with its
    own place."""

    document: Document
    keys: Keys
    key: str | None
    values: tuple[tuple[Keys, Any], ...]
    is_list: bool

    @property
    def field(self) -> str | None:
        return (self.key or "").split("|")[0] or None

    @property
    def indexes(self) -> tuple[int, ...]:
        return tuple(range(len(self.values)))

    @property
    def modifiers(self) -> tuple[str, ...]:
        return tuple((self.key or "").split("|")[1:])


def leaves(document: Document) -> Iterator[Leaf]:
    """Every detection item of a document, in the order of the file."""
    detection = document.data.get("detection")
    if not isinstance(detection, dict):
        return
    for name, definition in detection.items():
        if name != "condition":
            yield from _leaves(document, ("detection", name), definition)


def _leaves(document: Document, keys: Keys, definition: Any) -> Iterator[Leaf]:
    if isinstance(definition, dict):
        for key, value in definition.items():
            yield _leaf(document, (*keys, key), str(key), value)
    elif isinstance(definition, list) and any(isinstance(item, dict | list) for item in definition):
        for index, item in enumerate(definition):
            yield from _leaves(document, (*keys, index), item)
    else:
        yield _leaf(document, keys, None, definition)


def _leaf(document: Document, keys: Keys, key: str | None, value: Any) -> Leaf:
    listed = isinstance(value, list)
    values = tuple(((*keys, i), v) for i, v in enumerate(value)) if listed else ((keys, value),)
    return Leaf(document, keys, key, values, listed)


def pruned(document: Document, without: frozenset[Keys], renamed: Mapping[Keys, Any]) -> Document:
    """The document without some of its places, and with other keys or values at some, lines kept.

    ``renamed`` gives a mapping's entry another key, and any other place another value. What becomes empty
    goes, too.
    """
    lines: dict[Keys, int] = {}

    def walk(node: Any, old: Keys, new: Keys) -> Any:
        lines[new] = document.line(*old)
        if isinstance(node, dict):
            kept: dict[Any, Any] = {}
            for key, child in node.items():
                at = (*old, key)
                name = renamed[at] if isinstance(renamed.get(at), str) else key
                if at not in without and name not in kept:
                    kept[name] = walk(child, at, (*new, name))
            return {key: child for key, child in kept.items() if child is not _EMPTY} or _EMPTY
        if isinstance(node, list):
            out: list[Any] = []
            for index, child in enumerate(node):
                if (*old, index) not in without:
                    made = walk(child, (*old, index), (*new, len(out)))
                    out += [made] if made is not _EMPTY else []
            return out or _EMPTY
        return renamed[old].value if isinstance(renamed.get(old), Value) else node

    data = walk(document.data, (), ())
    data = {} if data is _EMPTY else data
    return Document(document.path, data, {keys: line for keys, line in lines.items() if _has(data, keys)})


def _has(data: Any, keys: Keys) -> bool:
    for key in keys:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True


@dataclass(frozen=True)
class Value:
    """Another value, where a plain string in `pruned` would be another key."""

    value: Any


_EMPTY: Any = object()
