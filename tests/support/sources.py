"""The log sources of the pack, for tests that make events of theirs."""

from __future__ import annotations

from conftest import ROOT
from detection_pack.model.log_source import tables_of
from detection_pack.model.log_source_reader import load_log_sources
from detection_pack.platforms.kusto.tables import WHOLE

SOURCES = load_log_sources(ROOT)
M365, PROCESS = SOURCES["m365"], SOURCES["process_creation"]
#: By the short names that tables of cases use.
BY_KIND = {"m365": M365, "process": PROCESS}


def tables(platform: str) -> dict[str, dict[str, str]]:
    """Tables with the types of their columns, as the platform names them: a column that holds the record
    itself is dynamic."""
    return {
        table: {name: "dynamic" if kind == WHOLE else kind for name, kind in columns.items()}
        for table, columns in tables_of(SOURCES.values(), platform).items()
    }


#: With the table of what rules have alerted on, which every workspace with Sentinel has.
SENTINEL_TABLES = tables("sentinel") | {
    "SecurityAlert": {"TimeGenerated": "datetime", "ExtendedProperties": "string"}
}
DEFENDER_TABLES = tables("defender")
