"""The watchlists of a site as an ARM template of their own.

To put a watchlist that is there again replaces or doubles its items (which of the two is not documented), so
the template makes none unless its parameter names it: no template can ask what is there. A watchlist that a
query names and that is missing is an error, so it comes before the rules. Sources: Azure's specifications,
securityinsights/Watchlists.json, whose example of an empty one has no ``rawContent``; "Conditional deployment
in Resource Manager templates".
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from detection_pack.model.list_table import ListTable
from detection_pack.platforms.sentinel.arm import SCHEMA, escaped

#: The parameter with the aliases of the watchlists to make.
CREATE = "create"
API_VERSION = "2025-03-01"
TYPE = "Microsoft.OperationalInsights/workspaces/providers/watchlists"


def watchlist_template(tables: Iterable[ListTable], version: str) -> str:
    """The template as JSON."""
    named = sorted(tables, key=lambda table: table.shared_name)
    document = {
        "$schema": SCHEMA,
        "contentVersion": f"{version}.0",
        "parameters": {
            "workspace": {
                "type": "string",
                "metadata": {"description": "The Log Analytics workspace that Microsoft Sentinel runs on"},
            },
            CREATE: {
                "type": "array",
                "defaultValue": [],
                "metadata": {
                    "description": "The watchlists to make, by alias. Never name one that is there: "
                    + ", ".join(table.shared_name for table in named)
                },
            },
        },
        "resources": [_resource(table) for table in named],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _resource(table: ListTable) -> dict[str, Any]:
    # A table is called by letters, digits and underscores: it cannot end the strings of the expressions.
    return {
        "condition": f"[contains(parameters('{CREATE}'), '{table.shared_name}')]",
        "name": f"[concat(parameters('workspace'),'/Microsoft.SecurityInsights/{table.shared_name}')]",
        "type": TYPE,
        "apiVersion": API_VERSION,
        "properties": escaped(_properties(table)),
    }


def _properties(table: ListTable) -> dict[str, Any]:
    found: dict[str, Any] = {
        "displayName": table.shared_name,
        "provider": "Remote Email Collection",
        "description": "What rules of Remote Email Collection leave out, by all values of a row: "
        + ", ".join(table.columns),
        "source": f"{table.shared_name}.csv",
        "sourceType": "Local",
        "itemsSearchKey": table.columns[0],
    }
    if table.rows:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([table.header, *table.rows])
        found |= {"contentType": "text/csv", "numberOfLinesToSkip": 0, "rawContent": text.getvalue()}
    return found
