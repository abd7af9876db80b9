"""The watchlists of a build, read out of their template."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detection_pack.model.findings import PackError
from detection_pack.platforms.built_file import TODO, built_text

#: Where the template stands, relative to dist/.
WATCHLISTS = "sentinel/watchlists/azuredeploy.json"


@dataclass(frozen=True)
class Watchlist:
    """A watchlist: its columns, which of them is the search key, and its items."""

    columns: Sequence[str]
    search_key: str
    items: Sequence[Mapping[str, str]]


def watchlists_in(dist: Path) -> dict[str, Watchlist]:
    """The watchlists by alias, none where a build has no template of any. Raises `PackError`."""
    path = dist / WATCHLISTS
    if not path.exists():
        return {}
    try:
        return {
            str(one["name"]).removesuffix("')]").rpartition("/")[2]: _watchlist(one["properties"])
            for one in json.loads(built_text(path))["resources"]
        }
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise PackError.at(path, 1, f"is not a template of watchlists ({error})", TODO) from error


def _watchlist(properties: Mapping[str, str]) -> Watchlist:
    rows = list(csv.reader(io.StringIO(properties.get("rawContent", ""), newline="")))
    header, items = (rows[0], rows[1:]) if rows else ([], [])
    return Watchlist(
        header, properties["itemsSearchKey"], [dict(zip(header, row, strict=True)) for row in items]
    )
