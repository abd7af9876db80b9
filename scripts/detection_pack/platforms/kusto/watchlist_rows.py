"""The conditions that ask a watchlist: whether one of its items has the values of a row."""

from __future__ import annotations

from collections.abc import Mapping

from detection_pack.languages.kql.kql_literals import kql_string
from detection_pack.languages.kql.watchlists import FUNCTION
from detection_pack.model.list_table import ADDRESS, ListTable, NotMaintained, check_whole

#: Between the values of an item that are compared as one text.
_SEPARATOR = '"\\n"'


def row_condition(use: str, table: ListTable, fields: Mapping[str, str]) -> str:
    """Whether an item of the watchlist has the values of these expressions, by column. Raises
    `NotMaintained`.

    Letter case does not count, an address may be in a network of the item, and an empty cell is no value. A
    watchlist without items has no columns: each is asked for with what stands in for it.
    """
    check_whole(use, table, fields)
    exact = [column for column in table.columns if column != ADDRESS]
    if not exact:
        raise NotMaintained(use, "KQL looks for networks of a row, and its rows are networks alone")
    present = [f"isnotempty({field})" for field in fields.values()]
    cells = [f'tostring(column_ifexists({kql_string(column)}, ""))' for column in exact]
    items, row = f"{FUNCTION}({kql_string(table.shared_name)})", _joined([fields[column] for column in exact])
    filled = " and ".join(f"isnotempty({cell})" for cell in cells)
    if ADDRESS not in table.columns:
        found = f"{row} in~ (({items} | where {filled} | project Row = {_joined(cells)}))"
        return f"({' and '.join([*present, found])})"
    cell = f'tostring(column_ifexists({kql_string(ADDRESS)}, ""))'
    ranges = []
    for version, colon in (("ipv4", "!contains"), ("ipv6", "contains")):
        # With a range of the other version among them the functions may give null.
        networks = (
            f'toscalar({items} | where {filled} and {cell} {colon} ":"'
            f" | summarize Networks = make_list({cell}) by Row = tolower({_joined(cells)})"
            " | summarize make_bag(bag_pack(Row, Networks)))"
        )
        asked = f"{version}_is_in_any_range({fields[ADDRESS]}, {networks}[tolower({row})])"
        ranges.append(f"coalesce({asked}, false)")
    return f"({' and '.join(present)} and ({' or '.join(ranges)}))"


def _joined(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"strcat({f', {_SEPARATOR}, '.join(texts)})"
