"""The one reader of rules: files, and everything that keeps the rules in them from being loaded.

The pack has a rule a file. In a folder of anybody's rules a file may hold several, a correlation may refer to
rules of other files, and filters may be for any of them: such files are read together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from detection_pack.model.detections import Fault
from detection_pack.model.documents import Document
from detection_pack.model.filters import Filter, NotApplied, filtered
from detection_pack.model.findings import REFUSED, Finding, PackError
from detection_pack.model.limits import limit_faults
from detection_pack.model.own_keys import own_key_faults
from detection_pack.model.placeholders import placeholders
from detection_pack.model.reading import Reading
from detection_pack.model.references import Index, Resolved, correlations_of, generates, resolved
from detection_pack.model.refused_forms import old_forms
from detection_pack.model.rule import TIERS, Rule
from detection_pack.model.rule_files import NAME, RESERVED, Label, distinct_names
from detection_pack.model.rule_texts import RuleText, rule_text, unforeseen
from detection_pack.model.sigma_faults import sigma_faults

RULE_NAME = "rule-name"
#: The check of what is said of a rule that only correlations are built of.
CORRELATED = "correlated-rule"


def load_rule(path: Path, tier: str, named_by_stem: bool = False) -> Rule:
    """One Sigma file, parsed by pySigma. Raises `PackError` with every fault of it."""
    reading = read_rule(path, tier, named_by_stem)
    if reading.rule is None or reading.findings:
        raise PackError(reading.findings)
    return reading.rule


def read_rule(path: Path, tier: str, named_by_stem: bool = False) -> Reading:
    """The one rule of a file as far as it can be read, with every fault of it.

    In the pack the main document's ``name`` is the file stem; of anybody's file the stem, made fit for a file
    name, is the name.
    """
    if not named_by_stem:
        return judged(_of_the_pack(rule_text(path, tier)))
    readings = read_rules([(path, tier)])
    rules = [reading for reading in readings if reading.rule is not None]
    if len(rules) > 1:
        main = rules[1].rule.main if rules[1].rule is not None else None
        what, todo = "holds more than one rule", "name a file with one rule"
        return Reading(path, "", None, (Finding(str(path), main.line() if main else 1, what, todo),))
    chosen = next(iter(rules or readings))
    if chosen.rule is None and not chosen.findings:
        what, todo = "is a Sigma filter, not a rule", "name the file of a rule"
        return replace(chosen, findings=(Finding(str(path), 1, what, todo),))
    return chosen


def read_rules(files: Sequence[tuple[Path, str]], folder: Path | None = None) -> list[Reading]:
    """Every rule of anybody's files, ``(path, tier)``, below ``folder``, with every fault of it."""
    return [judged(reading) for reading in gathered(files, folder)]


# ---- the pack's own --------------------------------------------------------------------------------------
def _of_the_pack(file: RuleText) -> Reading:
    findings = list(file.findings)
    reading = Reading(file.path, file.text, None)
    if file.beyond or not file.rules:
        findings += _no_filters(reading, file)
        return replace(reading, findings=tuple(findings))
    correlations = list(correlations_of(file.rules))
    main = (correlations or file.rules)[0]
    surplus = correlations[1:] if correlations else file.rules[1:]
    # Where a document could not be read, it may have been the correlation.
    for document in surplus if not file.broken else ():
        todo = "write one rule a file; only a correlation stands with the rules that it correlates"
        findings.append(Finding(str(file.path), document.line(), "holds more than one rule", todo))
    findings += _no_filters(reading, file)
    # By identity: two documents may say the same.
    own = tuple(d for d in file.rules if not any(d is other for other in surplus))
    name = file.path.stem
    index = Index.of(own, "this file does not hold", "put that rule into the same file")
    faults = resolved(reading, main, index, own).faults if correlations else ()
    findings += _name_faults(reading, main, name, checked=not file.broken)
    rule = Rule(name, file.path, file.tier, own, main, file.text)
    return replace(reading, rule=rule, findings=tuple(findings), faults=faults)


def _no_filters(reading: Reading, file: RuleText) -> Iterator[Finding]:
    for one in file.filters:
        what = "is a Sigma filter, which the rules of the pack do not use"
        todo = "write its condition into the rules that it is for"
        yield reading.at(REFUSED, one.document, ("filter",), what, todo)


def _name_faults(reading: Reading, main: Document, name: str, checked: bool) -> Iterator[Finding]:
    if checked and main.data.get("name") != name:
        what = f'the name "{main.data.get("name")}" is not the file\'s'
        yield reading.at(RULE_NAME, main, ("name",), what, f'write "name: {name}" or rename the file')
    if not NAME.fullmatch(name) or RESERVED.fullmatch(name):
        todo = "use 3 to 64 of a-z, 0-9 and _, a letter first, and no reserved name"
        yield reading.at(RULE_NAME, main, ("name",), f'"{name}" cannot name a rule', todo)


# ---- anybody's -------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Unit:
    """A rule to be built: the document that speaks for it, in its file, and what it correlates."""

    file: RuleText
    main: Document
    documents: tuple[Document, ...]
    faults: tuple[Fault, ...] = ()


def gathered(files: Sequence[tuple[Path, str]], folder: Path | None = None) -> list[Reading]:
    """Every rule of anybody's files, each with the rules that it correlates and the filters for it, before
    it is judged; a file in which no rule can be read, or that has filters alone, without a rule."""
    return _Folder([rule_text(path, tier) for path, tier in files], folder).readings()


class _Folder:
    """Files that are read together."""

    def __init__(self, files: Sequence[RuleText], folder: Path | None) -> None:
        self.files = files
        self.folder = folder
        self.file_of = {id(document): file for file in files for document in file.rules}
        self.plain = [d for file in files for d in file.rules if "correlation" not in d.data]
        everything = [document for file in files for document in file.rules]
        self.index = Index.of(
            everything, "is the name or id of no rule here", "put that rule into the folder"
        )
        self.filters = _Filters(
            [one for file in files for one in file.filters], self.plain, self.index, files
        )

    def readings(self) -> list[Reading]:
        resolved_by = {id(main): one for main, one in self._resolved()}
        silent = self._silent(resolved_by)
        units = {
            id(file): [
                _Unit(file, main, *self._documents(file, main, resolved_by, silent))
                for main in file.rules
                if id(main) not in silent
            ]
            for file in self.files
            if not file.beyond
        }
        every = [unit for file in self.files for unit in units.get(id(file), ())]
        names = distinct_names([self._label(unit, len(units[id(unit.file)])) for unit in every])
        named = {id(unit): name for unit, name in zip(every, names, strict=True)}
        found = []
        for file in self.files:
            about = self._about(file, silent)
            made = [self._reading(unit, named[id(unit)]) for unit in units.get(id(file), ())]
            if not made or about.findings or about.warnings:
                made.insert(0, about)
            found += made
        return found

    def _resolved(self) -> Iterator[tuple[Document, Resolved]]:
        for file in self.files:
            reading = Reading(file.path, file.text, None)
            for main in correlations_of(file.rules):
                yield main, resolved(reading, main, self.index, file.rules)

    def _silent(self, resolved_by: dict[int, Resolved]) -> dict[int, Document]:
        """The rules that are not built on their own, by identity, with a correlation that is built of them:
        Sigma builds what a correlation refers to as a part of it, unless it says ``generate: true``."""
        silent: dict[int, Document] = {}
        kept: set[int] = set()
        for file in self.files:
            for main in correlations_of(file.rules):
                for document in resolved_by[id(main)].documents:
                    silent.setdefault(id(document), main)
                    kept |= {id(document)} if generates(main) else set()
        for file in self.files:
            # A rule beside a correlation whose reference is misspelt is probably what it means.
            for main in correlations_of(file.rules):
                if resolved_by[id(main)].faults and not generates(main):
                    for document in file.rules:
                        if "correlation" not in document.data:
                            silent.setdefault(id(document), main)
        return {key: main for key, main in silent.items() if key not in kept}

    def _documents(
        self, file: RuleText, main: Document, resolved_by: dict[int, Resolved], silent: dict[int, Document]
    ) -> tuple[tuple[Document, ...], tuple[Fault, ...]]:
        if (one := resolved_by.get(id(main))) is None:
            return (main,), ()
        meant = {id(document) for document in one.documents} | {id(main)}
        meant |= {key for key, correlation in silent.items() if correlation is main}
        own = [document for document in file.rules if id(document) in meant]
        others = [d for d in one.documents if not any(d is document for document in own)]
        return (*own, *others), one.faults

    def _label(self, unit: _Unit, number_of_rules: int) -> Label:
        path = unit.file.path
        inside = self.folder is not None and self.folder in path.parents
        below = path.relative_to(self.folder) if self.folder and inside else Path(path.name)
        above = below.parent.parts
        if number_of_rules == 1:
            return Label(path.stem, below.as_posix(), above)
        number = next(n for n, d in enumerate(unit.file.rules, start=1) if d is unit.main)
        place = f"{below.as_posix()}:{number}"
        if isinstance(name := unit.main.data.get("name"), str) and name.strip():
            return Label(name, place, (*above, path.stem), number)
        title = unit.main.data.get("title")
        return Label(f"{path.stem}_{title if isinstance(title, str) else number}", place, above, number)

    def _about(self, file: RuleText, silent: dict[int, Document]) -> Reading:
        """What is said of a file besides its rules."""
        warnings = list(self.filters.unapplied(file))
        for document in file.rules:
            main = silent.get(id(document))
            if main is None or main.path == file.path:
                continue
            what = f'is not built on its own: the correlation "{main.data.get("title")}" ({main.path}:'
            what += f"{main.line()}) is built of it"
            todo = 'write "generate: true" under "correlation" there to have both'
            path, line = str(file.path), document.line()
            warnings.append(Finding(path, line, what, todo, CORRELATED, "warning"))
        findings = [*file.findings, *(fault for one in file.filters for fault in one.faults)]
        findings = list(dict.fromkeys(findings))
        return Reading(file.path, file.text, None, tuple(findings), warnings=tuple(warnings))

    def _reading(self, unit: _Unit, name: str) -> Reading:
        try:
            return self._put_together(unit, name)
        except Exception as error:  # what nobody foresaw in one rule must not end the work on the others
            found = unforeseen(unit.file.path, unit.main.line(), "read", error)
            return Reading(unit.file.path, unit.file.text, None, (found,))

    def _put_together(self, unit: _Unit, name: str) -> Reading:
        file, main = unit.file, unit.main
        reading = Reading(file.path, file.text, None)
        files = {id(self.file_of[id(document)]): self.file_of[id(document)] for document in unit.documents}
        findings = [finding for one in files.values() for finding in one.findings]
        if any(one.beyond for one in files.values()):
            return replace(reading, findings=tuple(findings))
        documents, new = [], main
        for document in unit.documents:
            made, against = self.filters.applied(document)
            findings += against
            documents.append(made)
            new = made if document is main else new
        rule = Rule(name, file.path, file.tier, tuple(documents), new, file.text)
        grown = len(files) > 1 or any(document.origins for document in documents)
        if grown and (beyond := list(limit_faults(documents))):
            return replace(reading, findings=(*findings, *beyond))
        faults = tuple(replace(fault, document=new) for fault in unit.faults)
        return replace(reading, rule=rule, findings=tuple(dict.fromkeys(findings)), faults=faults)


class _Filters:
    """The filters of a folder, and the rules that each is for."""

    def __init__(
        self, filters: Sequence[Filter], plain: Sequence[Document], index: Index, files: Sequence[RuleText]
    ) -> None:
        self.filters = filters
        self.index = index
        self._applied: dict[int, tuple[Document, list[Finding]]] = {}
        self.hiding = [file for file in files if file.may_hide_filter]
        self.of: dict[int, dict[int, Filter]] = {}
        self.warnings: dict[Path, list[Finding]] = {}
        for one in filters:
            self._assign(one, plain)

    def _assign(self, one: Filter, plain: Sequence[Document]) -> None:
        warnings = self.warnings.setdefault(one.document.path, [])
        if one.named is None:
            covered = [document for document in plain if one.covers(document)]
            if not covered:
                what, todo = (
                    "is a Sigma filter that applies to no rule here",
                    "correct its log source, or remove it",
                )
                warnings.append(one.warning(("filter",), what, todo))
            for document in covered:
                self.of.setdefault(id(document), {})[id(one)] = one
            return
        for keys, name in one.named:
            found = self.index.found(name)
            if not found:
                what = f'filters "{name}", which is the name or id of no rule here'
                warnings.append(one.warning(keys, what, self.index.advised(name)))
            for document in found:
                if "correlation" not in document.data and not one.covers(document):
                    what = f'is not applied to "{name}" ({document.path}:{document.line("logsource")}), '
                    what += "whose log source is not that of the filter"
                    warnings.append(one.warning(keys, what, "give the filter the log source of that rule"))
                else:
                    self.of.setdefault(id(document), {})[id(one)] = one

    def unapplied(self, file: RuleText) -> Iterable[Finding]:
        """What is said of the file's filters that take nothing out of some rule."""
        return self.warnings.get(file.path, ()) if file.filters else ()

    def applied(self, document: Document) -> tuple[Document, list[Finding]]:
        """A rule with all that is to be taken out of it, or why it must not be built."""
        if id(document) not in self._applied:
            self._applied[id(document)] = self._apply(document)
        return self._applied[id(document)]

    def _apply(self, document: Document) -> tuple[Document, list[Finding]]:
        filters = list(self.of.get(id(document), {}).values())
        if (against := self._against(document, filters)) is not None:
            return document, [_refusal(document, against)]
        if not filters:
            return document, []
        try:
            return filtered(document, filters), []
        except NotApplied as error:
            return document, [_refusal(document, f"is not built: {error}")]
        except Exception as error:
            return document, [unforeseen(document.path, document.line(), "filtered", error)]

    def _against(self, document: Document, filters: Sequence[Filter]) -> str | None:
        """The first thing because of which a rule's filters cannot be applied."""
        correlates = "correlation" in document.data
        for one in filters:
            if one.faults:
                return f'is not built: the filter "{one.title}" for it ({one.place}) has faults'
            if correlates:
                return f'is not built: the filter "{one.title}" ({one.place}) is for a correlation'
        for file in self.hiding if not correlates else ():
            if file.may_filter(document):
                return f"is not built: {file.path} seems to hold a filter for it, and cannot be read"
        return None


def _refusal(document: Document, what: str) -> Finding:
    todo = "correct the filter or its list of rules"
    return Finding(str(document.path), document.line(), what, todo)


# ---- what the rules say ----------------------------------------------------------------------------------
def judged(reading: Reading) -> Reading:
    """The reading with the faults of what the rule says; at the line of a placeholder only that is told."""
    if reading.rule is None:
        return reading
    try:
        return _judged(reading, reading.rule)
    except Exception as error:  # what nobody foresaw in one rule must not end the work on the others
        found = unforeseen(reading.path, reading.rule.main.line(), "read", error)
        return replace(reading, rule=None, findings=(*reading.findings, found))


def _judged(reading: Reading, rule: Rule) -> Reading:
    findings: tuple[Finding, ...] = reading.findings
    unresolved = reading.faults
    faults: list[Fault] = list(unresolved)
    for document in rule.documents:
        faults += (
            Fault(reading.at(REFUSED, document, keys, what, todo), document, keys)
            for keys, what, todo in old_forms(document)
        )
    faults += own_key_faults(reading, rule)
    try:
        faults += sigma_faults(reading, rule, unresolved)
    except PackError as error:
        # Nobody knows what to leave out, so nothing else can be looked at.
        findings, reading = (*findings, *error.findings), replace(reading, rule=None)
    in_pack = rule.tier in TIERS
    marked, silent = placeholders(rule.path, rule.text, rule.documents if in_pack else ())
    told = [f for f in (*findings, *(fault.finding for fault in faults)) if f.line not in silent]
    return replace(
        reading, findings=tuple(dict.fromkeys([*told, *marked])), faults=tuple(faults), silent=silent
    )
