"""Hunting queries as files of the Azure-Sentinel repository, which holds the community's queries for
Microsoft Sentinel and for Defender XDR in one form.

Source: ``.github/instructions/huntingqueries.instructions.md`` of that repository: a description has 255
characters at most, what is longer stands under ``description-detailed``; techniques may be sub-techniques;
who wrote it and who supports it stands under ``metadata``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from detection_pack.languages.markdown import folded
from detection_pack.model.findings import PackError
from detection_pack.model.rule import Rule
from detection_pack.platforms.built_file import TODO, built_text
from detection_pack.platforms.kusto.yaml_text import yaml_text

#: How long a description may be there, and the value of a saved search's tag.
SUMMARY = 255
_SENTENCE = re.compile(r".+?[.!?](?=\s|$)")


@dataclass(frozen=True)
class HuntingQuery:
    """One hunting query. ``connectors`` are ``(connector, data type)``; ``entities`` are ``(type,
    {identifier: result column})``; ``description`` is one line, ``guide`` lines on what to ask and to do."""

    id: str
    title: str
    description: str
    author: str
    connectors: tuple[tuple[str, str], ...]
    tactics: tuple[str, ...]
    techniques: tuple[str, ...]
    query: str
    version: str
    entities: tuple[tuple[str, Mapping[str, str]], ...] = ()
    guide: tuple[str, ...] = ()


def description_of(rule: Rule) -> str:
    """The rule's description as one line; its title where it has none."""
    return folded(rule.main.data.get("description") or "") or folded(rule.title)


def author_of(rule: Rule) -> str:
    return folded(rule.main.data.get("author") or "") or "unknown"


def summary(text: str, limit: int = SUMMARY) -> str:
    """The sentences at the start of one line of text that fit; of a longer one its words, and an ellipsis."""
    kept = ""
    for sentence in _SENTENCE.finditer(text):
        if sentence.end() > limit:
            break
        kept = text[: sentence.end()]
    if kept or len(text) <= limit:
        return kept or text
    return text[: limit - 1].rpartition(" ")[0] + "…" if " " in text[: limit - 1] else text[: limit - 1] + "…"


def hunting_yaml(hunt: HuntingQuery) -> str:
    """The query in the repository's form."""
    told = summary(hunt.description)
    document: dict[str, Any] = {
        "id": hunt.id,
        "name": hunt.title,
        "description": told,
        "description-detailed": "\n".join([hunt.description, *hunt.guide]),
        "requiredDataConnectors": [
            {"connectorId": connector, "dataTypes": [data]} for connector, data in hunt.connectors
        ],
        "tactics": list(hunt.tactics),
        "relevantTechniques": list(hunt.techniques),
        "query": hunt.query,
        "entityMappings": [
            {
                "entityType": kind,
                "fieldMappings": [{"identifier": i, "columnName": column} for i, column in fields.items()],
            }
            for kind, fields in hunt.entities
        ],
        "version": hunt.version,
        "metadata": {
            "source": {"kind": "Community"},
            "author": {"name": hunt.author},
            "support": {"tier": "Community"},
            "categories": {"domains": ["Security - Threat Protection"]},
        },
    }
    if told == hunt.description and not hunt.guide:
        del document["description-detailed"]
    if not hunt.entities:
        del document["entityMappings"]
    return yaml_text(document)


def hunting_file(path: Path) -> dict[str, Any]:
    """A hunting query's file. Raises `PackError`."""
    try:
        document = yaml.safe_load(built_text(path))
    except yaml.YAMLError as error:
        raise PackError.at(path, 1, "is not YAML", TODO) from error
    if not isinstance(document, dict) or not {"id", "query"} <= document.keys():
        raise PackError.at(path, 1, "is not a hunting query", TODO)
    return document
