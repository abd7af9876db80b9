"""Rules by the log sources whose records they read: an engine that is given those alone makes no tables of
the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from detection_pack.model.event import RuleEntry
from detection_pack.model.log_source import LogSource, source_of
from detection_pack.model.rule import Rule
from detection_pack.platforms.records import Records

#: Log sources, and the rules that read their records.
Group = tuple[tuple[LogSource, ...], list[RuleEntry]]


def by_source(
    entries: Iterable[RuleEntry], rules: Mapping[str, Rule], sources: Mapping[str, LogSource]
) -> list[Group]:
    """The groups in the order of their first rules. A rule that the pack does not have may read anything."""
    found: dict[tuple[str, ...], list[RuleEntry]] = {}
    for entry in entries:
        rule = rules.get(entry.name)
        named = sorted(sources) if rule is None else _read_by(rule, sources)
        found.setdefault(tuple(named or sorted(sources)), []).append(entry)
    return [(tuple(sources[name] for name in names), own) for names, own in found.items()]


def _read_by(rule: Rule, sources: Mapping[str, LogSource]) -> list[str]:
    stated = [d.data["logsource"] for d in rule.documents if isinstance(d.data.get("logsource"), dict)]
    read = [source_of(sources, {k: str(v) for k, v in one.items()}) for one in stated]
    return sorted({source.name for source in read if source is not None}) if all(read) else []


def records_of_sources(records: Records, sources: Sequence[LogSource]) -> Records | None:
    """The records of these sources alone; None where there is not one."""
    tables = {source.name: records.tables[source.name] for source in sources if source.name in records.tables}
    cursor = records.cursor()
    silent = [
        name
        for name, table in tables.items()
        if cursor.execute(f"SELECT 1 FROM {table.name} LIMIT 1").fetchone() is None
    ]
    if len(silent) == len(tables):
        return None
    known = [source for source in sources if source.name in tables]
    return Records(records.connection, known, tables, silent)
