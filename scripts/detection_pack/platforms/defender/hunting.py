"""Hunting queries of Microsoft Defender XDR, as the Azure-Sentinel repository holds the community's.

The portal shows that repository's queries under Community queries; of a query of one's own it takes the text
alone, which is that of ``queries/``. Columns are recognised as entities by their names, so none is mapped.
"""

from __future__ import annotations

import uuid

from detection_pack.languages.markdown import folded
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import Rule
from detection_pack.platforms.defender.backend import DEFENDER, query_of
from detection_pack.platforms.guide_text import plain_guide
from detection_pack.platforms.kusto.attack import service_attack
from detection_pack.platforms.kusto.hunting import HuntingQuery, author_of, description_of
from detection_pack.platforms.prerequisites import connectors_of

HUNTS = f"{DEFENDER}/hunting/"
#: The same query of two products has two ids; each is the same every time.
_IDS = uuid.UUID("b3f0a4de-5f0b-5c7e-9f53-2d2a4a3f6a17")


def hunting_query(rule: Rule, pipeline: Pipeline, version: str) -> HuntingQuery:
    """The hunting query of a rule. Raises `PackError`."""
    converted, text = query_of(rule, pipeline)
    named = service_attack(rule)
    return HuntingQuery(
        id=str(uuid.uuid5(_IDS, rule.id or rule.name)),
        title=folded(rule.title) or rule.name,
        description=description_of(rule),
        author=author_of(rule),
        connectors=connectors_of(converted.state, {str(converted.state.get("query_table"))}),
        tactics=named.tactics,
        techniques=named.techniques,
        query=text,
        version=version,
        guide=tuple(plain_guide(rule, DEFENDER, "dist/defender/hunting")),
    )
