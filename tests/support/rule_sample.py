"""Which rules of the pack an ordinary run takes where a test asks every rule: the rest is a campaign."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache

import pytest

from conftest import ROOT
from detection_pack.model.case import log_source_of
from detection_pack.model.pack import Pack, load_pack


def core_and_one_of_each_source(pack: Pack, names: Collection[str]) -> set[str]:
    """Of these rules those of the core, and the first of each log source that no core rule reads."""
    chosen, read = set(), set()
    for rule in sorted(pack.rules, key=lambda rule: (rule.tier != "core", rule.name)):
        if rule.name not in names:
            continue
        source = log_source_of(rule, pack.sources).name
        if rule.tier == "core" or source not in read:
            chosen.add(rule.name)
            read.add(source)
    return chosen


@cache
def sample() -> frozenset[str]:
    """`core_and_one_of_each_source` of all rules of the pack."""
    pack = load_pack(ROOT)
    return frozenset(core_and_one_of_each_source(pack, {rule.name for rule in pack.rules}))


def sampled(cases: Iterable[tuple[str, ...]]) -> list[object]:
    """These cases as parameters, the rule first in each: a campaign where the rule is not of the sample."""
    return [pytest.param(*case, marks=() if case[0] in sample() else pytest.mark.campaign) for case in cases]
