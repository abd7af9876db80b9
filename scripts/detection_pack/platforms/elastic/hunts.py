"""The hunting tier as Discover sessions: ``hunts.ndjson``, for Kibana's import of saved objects, read back.

A plain rule is a session of Lucene on a data view, which the file brings; a correlation is one of ES|QL.
Nothing runs them but a person. Sources: the schema of the saved object ``search`` in Kibana (plugin
saved_search, ``server/saved_objects/schema.ts``), whose model version 2 has all that is written here and
which later versions migrate; ``kibana_ndjson`` of pySigma's Elasticsearch backend; the saved searches in
elastic/integrations.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detection_pack.languages.markdown import folded
from detection_pack.model.findings import PackError
from detection_pack.model.rule import Rule
from detection_pack.platforms.built_file import TODO, built_text
from detection_pack.platforms.elastic.backend import ElasticQuery
from detection_pack.platforms.elastic.imports import NAME_TAG, PLATFORM, rule_id, shown_fields
from detection_pack.platforms.elastic.triage import paragraphs
from detection_pack.platforms.guide_text import plain_guide

HUNTS = f"{PLATFORM}/hunting/hunts.ndjson"
#: The versions of the saved objects' forms that are written here.
_CORE, _SEARCH, _DATA_VIEW = "8.8.0", "10.2.0", "8.0.0"
_INDEX_REFERENCE = "kibanaSavedObjectMeta.searchSourceJSON.index"
_TIME = "@timestamp"
_NAME_OF_VIEWS = "Remote Email Collection"


def objects_of(rule: Rule, query: ElasticQuery) -> list[dict[str, Any]]:
    """The session of a rule and, before it, the data view that it is on."""
    kind = "query" if query.esql is None else "esql"
    indices = ",".join(query.index)
    view = str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:detection-pack:data-view:{indices}"))
    references: list[dict[str, str]] = []
    if query.esql is None:
        source = {
            "query": {"query": query.lucene, "language": "lucene"},
            "filter": [],
            "indexRefName": _INDEX_REFERENCE,
        }
        references = [{"name": _INDEX_REFERENCE, "type": "index-pattern", "id": view}]
    else:
        # Discover makes the view of an ES|QL query by itself; this tells it the time field.
        source = {
            "query": {"esql": query.esql},
            "index": {"id": view, "title": indices, "timeFieldName": _TIME, "type": "esql"},
            "filter": [],
        }
    session = {
        "id": rule_id(rule, kind),
        "type": "search",
        "attributes": {
            "title": folded(rule.title) or rule.name,
            "description": "\n\n".join(
                [*_description(rule), *plain_guide(rule, PLATFORM, "hunts.ndjson"), f"{NAME_TAG}{rule.name}"]
            ),
            "columns": [] if query.esql is not None else shown_fields(rule, query, kind),
            "sort": [] if query.esql is not None else [[_TIME, "desc"]],
            "grid": {},
            "hideChart": False,
            "isTextBasedQuery": query.esql is not None,
            "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps(source, ensure_ascii=False)},
            "timeRestore": True,
            "timeRange": {"from": f"now-{rule.lookback}", "to": "now"},
            "refreshInterval": {"pause": True, "value": 60_000},
        },
        "references": references,
        "managed": False,
        "coreMigrationVersion": _CORE,
        "typeMigrationVersion": _SEARCH,
    }
    return [session] if query.esql is not None else [_data_view(view, indices), session]


def _description(rule: Rule) -> list[str]:
    return paragraphs(rule.main.data.get("description") or "") or [folded(rule.title) or rule.name]


def _data_view(identity: str, indices: str) -> dict[str, Any]:
    return {
        "id": identity,
        "type": "index-pattern",
        "attributes": {
            "title": indices,
            "name": f"{_NAME_OF_VIEWS}: {indices}",
            "timeFieldName": _TIME,
            # An index that nothing has filled yet is no fault of a hunt.
            "allowNoIndex": True,
        },
        "references": [],
        "managed": False,
        "coreMigrationVersion": _CORE,
        "typeMigrationVersion": _DATA_VIEW,
    }


def ndjson(objects: Sequence[Mapping[str, Any]]) -> bytes:
    """What the import reads: an object a line, each once, and the summary of an export."""
    once = list({(one["type"], one["id"]): one for one in objects}.values())
    # What is referred to comes first, as in an export.
    ordered = sorted(once, key=lambda one: bool(one["references"]) or one["type"] == "search")
    summary = {
        "excludedObjects": [],
        "excludedObjectsCount": 0,
        "exportedCount": len(ordered),
        "missingRefCount": 0,
        "missingReferences": [],
    }
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in [*ordered, summary]).encode()


def load_hunts(dist: Path) -> list[dict[str, Any]]:
    """The sessions of hunts.ndjson in the form of Kibana's rules: ``type``, ``query``, ``index``, ``from``
    and, for the Sigma name, ``tags``. Raises `PackError`."""
    path = dist / HUNTS
    try:
        return read_hunts(built_text(path))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PackError.at(path, 1, f"holds no saved objects of this pack ({error})", TODO) from error


def read_hunts(content: str) -> list[dict[str, Any]]:
    """`load_hunts` of a file's content. Raises ValueError, KeyError, TypeError or AttributeError for what is
    not ours."""
    lines = [json.loads(line) for line in content.split("\n") if line]
    objects = [one for one in lines if "type" in one]
    views = {one["id"]: one["attributes"]["title"] for one in objects if one["type"] == "index-pattern"}
    return [_read(one, views) for one in objects if one["type"] == "search"]


def _read(session: Mapping[str, Any], views: Mapping[str, str]) -> dict[str, Any]:
    """One session, as Discover opens it."""
    about = session["attributes"]
    source = json.loads(about["kibanaSavedObjectMeta"]["searchSourceJSON"])
    if about["isTextBasedQuery"]:
        kind, query, index = "esql", source["query"]["esql"], source["index"]["title"]
    else:
        if source["query"]["language"] != "lucene" or source["filter"]:
            raise ValueError("a search that is not Lucene alone")
        kind, query = "query", source["query"]["query"]
        [reference] = (one for one in session["references"] if one["name"] == source["indexRefName"])
        index = views[reference["id"]]
    if about["timeRange"]["to"] != "now" or not about["timeRestore"]:
        raise ValueError("a time range that does not end now")
    return {
        "type": kind,
        "query": query,
        "index": index.split(","),
        "from": about["timeRange"]["from"],
        "tags": [about["description"].rpartition("\n")[2]],
    }
