"""Hunting queries of Microsoft Sentinel: a file each, and all of them as saved searches in one ARM template.

A hunting query is a saved search of the workspace, of the category "Hunting Queries", whose tags hold its
description, tactics and techniques ("Manage hunting and livestream queries by using REST API"). A tag's value
has 256 characters at most; sub-techniques have a tag of their own. The entities that the portal maps stand in
the query itself, as columns such as ``Account_0_FullName``: that is how the portal saves a mapping. One
template serves for all connectors, because nothing runs a saved search when it is saved; that the service
does not check its tables, as it does those of an analytics rule, is inferred.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detection_pack.languages.markdown import folded
from detection_pack.model.findings import PackError
from detection_pack.model.rule import Rule
from detection_pack.platforms.built_file import TODO, built_text
from detection_pack.platforms.conversion import Converted
from detection_pack.platforms.guide_text import plain_guide
from detection_pack.platforms.kusto.attack import service_attack
from detection_pack.platforms.kusto.hunting import HuntingQuery, author_of, description_of, summary
from detection_pack.platforms.kusto.query import query_from
from detection_pack.platforms.sentinel.analytics import (
    entities_of,
    first_values,
    required_connectors,
    rule_uuid,
)
from detection_pack.platforms.sentinel.arm import escaped, unescaped

HUNTS = "sentinel/hunting/"
#: The template of all hunting queries, relative to dist/.
TEMPLATE = f"{HUNTS}azuredeploy.json"
CATEGORY = "Hunting Queries"
#: The version in which the Azure-Sentinel repository packages its own hunting queries.
API_VERSION = "2020-08-01"


def hunting_query(
    rule: Rule, converted: Converted, parameters: tuple[str, ...], version: str
) -> HuntingQuery:
    """The hunting query of a rule that `SentinelBackend` has converted, with its ``let`` lines."""
    entities, further = entities_of(rule, converted)
    entities = tuple((kind, fields) for kind, fields in entities if fields)
    named = service_attack(rule)
    return HuntingQuery(
        id=rule_uuid(rule),
        title=folded(rule.title) or rule.name,
        description=description_of(rule),
        author=author_of(rule),
        connectors=required_connectors(rule, converted),
        tactics=named.tactics,
        techniques=named.techniques,
        query=query_from(rule, converted, parameters, further).text() + _mapped(rule, entities),
        version=version,
        entities=entities,
        guide=tuple(plain_guide(rule, "sentinel", "Hunting, Queries")),
    )


def _mapped(rule: Rule, entities: Sequence[tuple[str, Mapping[str, str]]]) -> str:
    """The lines that map the entities, each in one of its own, as the portal writes them."""
    numbers: dict[str, int] = {}
    lines = [f"| extend {value}\n" for value in first_values(rule)]
    for kind, fields in entities:
        number = numbers.setdefault(kind, 0)
        numbers[kind] += 1
        lines += [f"| extend {kind}_{number}_{i} = {column}\n" for i, column in fields.items()]
    return "".join(lines)


def resource(hunt: HuntingQuery) -> str:
    """One hunting query as a resource of the template, as JSON text."""
    # hunt.id is a UUID: it cannot end the expression's string.
    document = {
        "type": "Microsoft.OperationalInsights/workspaces/savedSearches",
        "apiVersion": API_VERSION,
        "name": f"[concat(parameters('workspace'),'/{hunt.id}')]",
        "properties": escaped(
            {
                # Whatever the search was before: deploying again updates it.
                "etag": "*",
                "category": CATEGORY,
                "displayName": hunt.title,
                "query": hunt.query,
                "version": 2,
                "tags": [{"name": name, "value": value} for name, value in _tags(hunt).items() if value],
            }
        ),
    }
    return json.dumps(document, indent=2)


def _tags(hunt: HuntingQuery) -> dict[str, str]:
    techniques = dict.fromkeys(technique.partition(".")[0] for technique in hunt.techniques)
    return {
        "description": summary(hunt.description),
        "tactics": ",".join(hunt.tactics),
        "techniques": ",".join(techniques),
        "subTechniques": ",".join(technique for technique in hunt.techniques if "." in technique),
    }


def saved_searches(dist: Path) -> dict[str, Mapping[str, Any]]:
    """``{id: properties}`` of the template, as Resource Manager reads the properties. Raises `PackError`."""
    path = dist / TEMPLATE
    try:
        return {
            str(one["name"]).removesuffix("')]").rpartition("/")[2]: unescaped(one["properties"])
            for one in json.loads(built_text(path))["resources"]
        }
    except (ValueError, KeyError, TypeError) as error:
        raise PackError.at(path, 1, f"is not a template of this pack ({error})", TODO) from error
