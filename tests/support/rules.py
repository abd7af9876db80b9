"""Which rules of the pack a test takes: those that a platform is given."""

from __future__ import annotations

from conftest import DIST
from detection_pack.build.dist import rule_entries
from detection_pack.model.event import RuleEntry
from detection_pack.model.pack import Pack
from detection_pack.model.rule import Rule


def given(pack: Pack, platform: str) -> list[Rule]:
    """The rules of the pack that the platform is given."""
    return [rule for rule in pack.rules if pack.pipelines[platform].absence(rule) is None]


def entries(pack: Pack, platform: str) -> list[RuleEntry]:
    """The rules that the build should hold for the platform, as its manifest knows them."""
    names = {rule.name for rule in given(pack, platform)}
    found = [entry for entry in rule_entries(DIST) if entry.name in names]
    assert {entry.name for entry in found} == names
    return found
