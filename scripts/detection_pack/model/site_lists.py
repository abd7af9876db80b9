"""A site's lists, and the rules without what stands in them.

``sigma/filters/<name>.yml`` has Sigma filters whose selection ``row`` has placeholders (``|expand``). A site
gives the values in a small YAML file, ``<name>:`` with a list of rows; a row becomes one mapping of that
selection, so that it leaves out exactly what has all its values. A row is for those filters of the file that
have the parameters that it states, no more and no fewer: nothing in a row is ever disregarded. Values are
literal, an ``address`` may be a network, a ``share`` is a folder with all in it. What nobody lists changes no
rule.

Rows may stand in the queries, or in tables that are maintained on a platform (`model.list_table`): one for
each form of a list, so that there, too, a row fills all the columns of its table.
"""

from __future__ import annotations

import copy
import difflib
import ipaddress
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from detection_pack.model.documents import Document, Key, load_documents, read_text
from detection_pack.model.filters import Filter, NotApplied, filtered
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.limits import limit_faults
from detection_pack.model.list_table import ADDRESS, REASON, ListTable, placeholder, use_of
from detection_pack.model.pack import Pack
from detection_pack.model.reading import Reading
from detection_pack.model.rule import Rule
from detection_pack.model.rule_files import NAME, yaml_files
from detection_pack.model.rule_reader import judged

FOLDER = Path("sigma") / "filters"
#: The selection that has the placeholders, and the only condition on it.
ROW, CONDITION = "row", "not row"
#: The parameter whose values are shares of a file server, or folders of one.
SHARE = "share"
#: What a row may state besides its parameters: for whoever reads the list.
NOTES = frozenset({REASON})
#: Rows that a file may have.
MOST_ROWS = 1_000

#: Where IPv4 addresses stand in IPv6.
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_EXAMPLES = {ADDRESS: "192.0.2.0/24", SHARE: r"\\server\share" + "\\"}
#: A placeholder, and what a field has before its value, where that is looked for within the field.
_PLACEHOLDER = re.compile(r"([^%]*)%([a-z][a-z0-9_]*)%")
#: ``\\server\share``, and folders in it. Windows keeps the other characters for itself.
_SHARE = re.compile(r"\\\\([^\x00-\x1f\x7f\\/:*?\"<>|]+\\)+")


@dataclass(frozen=True)
class ListFilter:
    """One Sigma filter of a list: the parameter behind each key of its row, and what that holds besides."""

    list: str
    filter: Filter

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        """By key of the row without ``|expand``, the name of the parameter."""
        return {key: name for key, (_, name) in self._placeholders.items()}

    @property
    def before(self) -> Mapping[str, str]:
        """By key of the row without ``|expand``, what stands right before each value, as Sigma writes it."""
        return {key: text for key, (text, _) in self._placeholders.items()}

    @cached_property
    def _placeholders(self) -> Mapping[str, tuple[str, str]]:
        found = {}
        for key, value in self._row.items():
            match = _PLACEHOLDER.fullmatch(str(value))
            parts = str(key).split("|")
            if match is not None and "expand" in parts and (not match[1] or "contains" in parts):
                found["|".join(part for part in parts if part != "expand")] = match[1], match[2]
        return found

    @property
    def fixed(self) -> Mapping[str, Any]:
        """What every row has besides its parameters."""
        return {key: value for key, value in self._row.items() if "expand" not in str(key).split("|")}

    @property
    def contained(self) -> bool:
        """Whether a value of it may be a part of what a field holds."""
        return any(set(key.split("|")[1:]) for key in self.parameters)

    @property
    def _row(self) -> Mapping[str, Any]:
        row = self.filter.stated.get(ROW)
        return row if isinstance(row, dict) else {}

    @property
    def rules(self) -> tuple[str, ...]:
        """The names of the rules that it is for."""
        return tuple(name for _, name in self.filter.named or ())

    def faults(self) -> Iterator[Finding]:
        """What keeps it from being a filter of a list."""
        stated = self.filter.stated
        if (
            set(stated) != {"rules", ROW, "condition"}
            or stated.get("condition") != CONDITION
            or not self._row
        ):
            todo = f'write the selection "{ROW}" and "condition: {CONDITION}"'
            yield self.filter.at(("filter",), "is not a filter of a list", todo)
        elif len(self.parameters) + len(self.fixed) != len(self._row):
            todo = "write Field|expand: '%parameter%'"
            yield self.filter.at(("filter", ROW), "has |expand and not one placeholder", todo)
        elif len(set(self.parameters.values())) != len(self.parameters):
            yield self.filter.at(("filter", ROW), "has one parameter twice", "give each a name of its own")
        elif self.filter.named is None:
            yield self.filter.at(("filter", "rules"), "does not name its rules", "list their names")
        else:
            yield from self._example.faults

    @property
    def _example(self) -> Filter:
        """The filter with values in place of its placeholders, each where the file has it."""
        document = self.filter.document
        values = {name: (_EXAMPLES.get(name, "value"),) for name in self.parameters.values()}
        made = self.filled(document, [Row(self.list, values, document.line())]).document
        made.data["filter"][ROW] = made.data["filter"][ROW][0]
        return Filter(Document(document.path, made.data, document.lines), self.filter.text)

    def asking(self, number: int) -> Filter:
        """The filter with places that a table fills. ``number``: which filter of its list it is."""
        data = copy.deepcopy(self.filter.document.data)
        row: dict[str, Any] = dict(self.fixed)
        for key, name in self.parameters.items():
            row[f"{key}|expand"] = placeholder(self.list, number, name)
        data["filter"][ROW] = row
        document = self.filter.document
        return Filter(Document(document.path, data, document.lines), "")

    def filled(self, site: Document, rows: Sequence[Row]) -> Filter:
        """The filter with these rows, each with its place in the site's file."""
        data = copy.deepcopy(self.filter.document.data)
        data["filter"][ROW] = [self._filled(row) for row in rows]
        lines: dict[tuple[Key, ...], int] = {("filter",): rows[0].line}
        for number, row in enumerate(rows):
            lines["filter", ROW, number] = row.line
            for key, name in self._keys.items():
                lines["filter", ROW, number, key] = row.lines.get(name, row.line)
        return Filter(Document(site.path, data, lines), "")

    @cached_property
    def _keys(self) -> Mapping[str, str]:
        """By key of a filled row, the parameter."""
        return {f"{key}|cidr" if name == ADDRESS else key: name for key, name in self.parameters.items()}

    def _filled(self, row: Row) -> dict[str, Any]:
        filled: dict[str, Any] = dict(self.fixed)
        for key, name in self._keys.items():
            before = self.before.get(key, "")
            values = [value if name == ADDRESS else before + literal(value) for value in row.values[name]]
            filled[key] = values if len(values) > 1 else values[0]
        return filled


def literal(value: str) -> str:
    """A text as a value of Sigma that means this text: an asterisk is one."""
    return re.sub(r"([\\*?])", r"\\\1", value)


@dataclass(frozen=True)
class Row:
    """One row of a site's list. ``values``: by parameter one or more texts, of an address networks;
    ``lines``: where each stands."""

    list: str
    values: Mapping[str, tuple[str, ...]]
    line: int
    lines: Mapping[str, int] = field(default_factory=dict, repr=False)
    reason: str = ""

    @property
    def text(self) -> str:
        return ", ".join(f"{name} {' or '.join(values)}" for name, values in self.values.items())


@dataclass(frozen=True)
class ListUse:
    """One filter of a list that a site states. ``rows`` is the filter with the rows that are for it, None
    without any; ``asking`` the filter that asks ``table``, None where its rows state nothing to ask for."""

    list: str
    id: str
    rows: Filter | None
    asking: Filter | None
    table: ListTable | None


@dataclass(frozen=True)
class Site:
    """What a site's file says: the filters that its rows make, and the rows by the name of their list.

    ``uses`` are the filters of all lists that it states, those without rows as well.
    """

    document: Document
    rows: Mapping[str, tuple[Row, ...]]
    filters: tuple[tuple[str, Filter], ...]
    uses: tuple[ListUse, ...] = ()

    def uses_of(self, rule: Rule) -> tuple[ListUse, ...]:
        """The filters about a rule whose rows can stand in a table."""
        asking = [(use.id, use.asking) for use in self.uses if use.asking is not None]
        about = {name for name, _ in _of_rule(rule, asking)}
        return tuple(use for use in self.uses if use.id in about)

    def asked(self, rule: Rule, inlined: Collection[str] = ()) -> Rule:
        """The rule with its lists in tables, but for the filters of ``inlined``, by their ids, and those
        that have nothing to ask: the rows of these stand in it. Raises `PackError`."""
        own = [use for use in self.uses_of(rule) if use.id not in inlined]
        tables = {use.id: use.table for use in own if use.table is not None}
        rest = [(use.list, use.rows) for use in self.uses if use.id not in tables and use.rows is not None]
        made = without_listed(rule, rest)
        if not own:
            return made
        documents, main = _with_filters(made, [(use.list, use.asking) for use in own if use.asking])
        return replace(made, documents=documents, main=main, lists=tables)

    def only(self, name: str) -> Site:
        """One list alone."""
        return replace(self, filters=tuple(one for one in self.filters if one[0] == name))

    def names(self, rules: Iterable[Rule]) -> dict[str, tuple[str, ...]]:
        """By rule the lists that are about it, in their order."""
        found = {rule.name: _of_rule(rule, self.filters) for rule in rules}
        return {
            rule: tuple(dict.fromkeys(name for name, _ in filters))
            for rule, filters in found.items()
            if filters
        }


def load_list_filters(root: Path, findings: list[Finding] | None = None) -> dict[str, tuple[ListFilter, ...]]:
    """The filters of the pack by the name of their list. Raises `PackError`, or with ``findings`` reports
    there and leaves a faulty file out."""
    collected: list[Finding] = [] if findings is None else findings
    found: dict[str, tuple[ListFilter, ...]] = {}
    folder = root / FOLDER
    for path in yaml_files(folder) if folder.is_dir() else ():
        own: list[Finding] = []
        try:
            text = read_text(path)
            documents = load_documents(path, text, own)
        except PackError as error:
            collected += error.findings
            continue
        made = tuple(ListFilter(path.stem, Filter(document, text)) for document in documents)
        own += (fault for one in made for fault in _faults(one))
        if not NAME.fullmatch(path.stem):
            own.append(Finding(str(path), 1, f'"{path.stem}" cannot name a list', "use a-z, 0-9 and _"))
        collected += dict.fromkeys(own)
        if made and not own:
            found[path.stem] = made
    if findings is None and collected:
        raise PackError(collected)
    return found


def unknown_rules(lists: Mapping[str, Sequence[ListFilter]], rules: Iterable[Rule]) -> Iterator[Finding]:
    """What the filters of lists name that is no rule here, or one of another log source."""
    known = {str(d.data.get("name")): d for rule in rules for d in rule.documents if "detection" in d.data}
    for one in (one for filters in lists.values() for one in filters):
        for keys, name in one.filter.named or ():
            if name not in known:
                near = difflib.get_close_matches(name, list(known), n=1)
                todo = f'did you mean "{near[0]}"?' if near else "name a rule of the pack"
                yield one.filter.at(keys, f'no rule is called "{name}"', todo)
            elif not one.filter.covers(known[name]):
                todo = "give the filter the log source of the rule"
                yield one.filter.at(keys, f'"{name}" has another log source', todo)


def _faults(one: ListFilter) -> Iterator[Finding]:
    data = one.filter.document.data
    if not isinstance(data, dict) or not isinstance(data.get("filter"), dict):
        line = one.filter.document.line()
        yield Finding(str(one.filter.document.path), line, "is not a Sigma filter", "write one with filter:")
        return
    yield from one.faults()


def load_site(path: Path, lists: Mapping[str, Sequence[ListFilter]]) -> Site:
    """A site's file. Raises `PackError` with everything that is wrong with it."""
    documents = load_documents(path)
    document = documents[0] if documents else Document(path, {}, {})
    findings: list[Finding] = []
    if len(documents) > 1:
        findings.append(Finding(str(path), documents[1].line(), "is a second document", "write one"))
    if not isinstance(document.data, dict):
        raise PackError.at(path, document.line(), "is not a mapping of lists", "write LIST: and its rows")
    rows: dict[str, tuple[Row, ...]] = {}
    for name, stated in document.data.items():
        place = document.line(name)
        if name not in lists:
            near = difflib.get_close_matches(str(name), list(lists), n=1)
            todo = f'did you mean "{near[0]}"?' if near else f"use {', '.join(lists)}"
            findings.append(Finding(str(path), place, f'no list is called "{name}"', todo))
        elif not isinstance(stated, list | None):
            findings.append(Finding(str(path), place, f"{name} is not a list of rows", "begin each with -"))
        else:
            rows[name] = tuple(_rows(document, name, stated or (), lists[name], findings))
    if sum(map(len, rows.values())) > MOST_ROWS:
        findings.append(Finding(str(path), 1, f"has more than {MOST_ROWS:,} rows", "leave some out"))
    if findings:
        raise PackError(findings)
    uses = tuple(use for name in sorted(rows) for use in _uses(document, name, lists[name], rows[name]))
    made = tuple((use.list, use.rows) for use in uses if use.rows is not None)
    return Site(document, {name: own for name, own in rows.items() if own}, made, uses)


def _uses(site: Document, name: str, filters: Sequence[ListFilter], rows: Sequence[Row]) -> Iterator[ListUse]:
    forms = {form: tuple(one.parameters.values()) for one in filters if (form := _form(one))}
    for number, one in enumerate(filters, start=1):
        about = [row for row in rows if row.values.keys() == _form(one)]
        filled = one.filled(site, about) if about else None
        if not _form(one):
            yield ListUse(name, use_of(name, number), filled, None, None)
            continue
        columns = next(found for form, found in forms.items() if form == _form(one))
        table = name if len(forms) == 1 else f"{name}_by_{'_and_'.join(columns)}"
        made = ListTable(table, columns, tuple(cells for row in about for cells in _cells(row, columns)))
        yield ListUse(name, use_of(name, number), filled, one.asking(number), made)


def _form(one: ListFilter) -> frozenset[str]:
    return frozenset(one.parameters.values())


def _cells(row: Row, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """A row of the file as rows of a table, in which a cell has one value."""
    for values in itertools.product(*(row.values[name] for name in columns)):
        yield (*values, " ".join(row.reason.split()))


def _rows(
    document: Document,
    name: str,
    stated: Sequence[Any],
    filters: Sequence[ListFilter],
    findings: list[Finding],
) -> Iterator[Row]:
    known = list(dict.fromkeys(frozenset(one.parameters.values()) for one in filters))
    forms = "; or ".join(" and ".join(sorted(form)) or "a reason alone" for form in known)
    for number, row in enumerate(stated):
        line = document.line(name, number)
        if not isinstance(row, dict):
            findings.append(Finding(str(document.path), line, f"a row of {name} is not a mapping", forms))
            continue
        parameters = {str(key): value for key, value in row.items() if key not in NOTES}
        if frozenset(parameters) not in known:
            what = f"a row of {name} states {' and '.join(sorted(parameters)) or 'nothing'}"
            findings.append(Finding(str(document.path), line, what, f"state {forms}"))
            continue
        values: dict[str, tuple[str, ...]] = {}
        lines: dict[str, int] = {}
        for key, value in parameters.items():
            lines[key] = document.line(name, number, key)
            try:
                values[key] = _values(key, value)
            except ValueError as error:
                findings.append(Finding(str(document.path), lines[key], f"{key} {error}", "correct the row"))
        if len(values) == len(parameters):
            yield Row(name, values, line, lines, str(row.get("reason") or ""))


def _values(name: str, stated: Any) -> tuple[str, ...]:
    """The texts of a parameter. Raises `ValueError`."""
    listed = stated if isinstance(stated, list) else [stated]
    if not listed:
        raise ValueError("has no value")
    found = []
    for value in listed:
        if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
            raise ValueError(f"has a value that is not text: {value!r}")
        found.append(_READ.get(name, str)(str(value)))
    return tuple(dict.fromkeys(found))


def _network(text: str) -> str:
    try:
        found = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f'"{text}" is neither an address nor a network: {error}') from error
    if isinstance(found, ipaddress.IPv6Network) and found.network_address.ipv4_mapped is not None:
        raise ValueError(f'"{text}" is an IPv4 address in another form; write it as IPv4')
    # Some platforms take an IPv4 address for one of IPv6 as well.
    if found.prefixlen == 0 or (isinstance(found, ipaddress.IPv6Network) and _MAPPED.subnet_of(found)):
        raise ValueError(f'"{text}" holds every address')
    return str(found)


def _share(text: str) -> str:
    found = text.rstrip("\\") + "\\"
    names = found.strip("\\").split("\\")
    if not _SHARE.fullmatch(found) or len(names) < 2 or {".", ".."} & set(names):
        raise ValueError(f'"{text}" is not the share of a server; write \\\\SERVER\\SHARE, or a folder of it')
    return found


#: How the values of a parameter are read, where they are not any text.
_READ: Mapping[str, Callable[[str], str]] = {ADDRESS: _network, SHARE: _share}


def _of_rule(rule: Rule, filters: Iterable[tuple[str, Filter]]) -> list[tuple[str, Filter]]:
    own = {str(document.data.get("name")) for document in rule.documents if "detection" in document.data}
    return [(name, one) for name, one in filters if own & {stated for _, stated in one.named or ()}]


def without_listed(rule: Rule, filters: Sequence[tuple[str, Filter]]) -> Rule:
    """The rule without what these filters, by list, leave out of it; itself where none is about it. Raises
    `PackError`."""
    about = _of_rule(rule, filters)
    if not about:
        return rule
    if faults := [fault for _, one in about for fault in one.faults]:
        raise PackError(dict.fromkeys(faults))
    documents, main = _with_filters(rule, about)
    reading = judged(Reading(rule.path, rule.text, replace(rule, documents=documents, main=main)))
    if reading.rule is None or reading.findings:
        raise PackError(reading.findings)
    return reading.rule


def _with_filters(rule: Rule, about: Sequence[tuple[str, Filter]]) -> tuple[tuple[Document, ...], Document]:
    """The documents of the rule with these filters, and the one that speaks for it. Raises `PackError`."""
    documents, main = [], rule.main
    for document in rule.documents:
        named = [
            one for _, one in about if document.data.get("name") in {name for _, name in one.named or ()}
        ]
        made = document
        if named and "detection" in document.data:
            try:
                made = filtered(document, named)
            except NotApplied as error:
                raise PackError.at(rule.path, document.line(), str(error), "correct the list") from error
        documents.append(made)
        main = made if document is rule.main else main
    if beyond := list(limit_faults(documents)):
        raise PackError(beyond)
    return tuple(documents), main


def with_site(pack: Pack, site: Site) -> Pack:
    """The pack with its rules as a site has them. Raises `PackError`."""
    findings: list[Finding] = []
    rules = []
    for rule in pack.rules:
        try:
            rules.append(without_listed(rule, site.filters))
        except PackError as error:
            findings += error.findings
    if findings:
        raise PackError(dict.fromkeys(findings))
    return replace(pack, rules=tuple(rules))
