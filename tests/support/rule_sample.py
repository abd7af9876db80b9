"""Which rules of the pack a test takes where asking every one of them would cost more than it tells.

`replay` executes every artefact of every rule on every platform (`house/test_readme`), and so does the run on
real Elasticsearch; what is asked beside that is a property of a kind of rule: the ordinary run asks it of a
`sample`, the campaigns of all `kinds`.
"""

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


@cache
def kinds() -> frozenset[str]:
    """The sample, and of each kind of rule one: of a log source and a tier, plain or a correlation
    of a type."""
    pack = load_pack(ROOT)
    found: dict[tuple[str, ...], list[str]] = {}
    for rule in sorted(pack.rules, key=lambda rule: rule.name):
        types = [str(d.data["correlation"]["type"]) for d in rule.documents if "correlation" in d.data]
        kind = (log_source_of(rule, pack.sources).name, rule.tier, *types)
        found.setdefault(kind, []).append(rule.name)
    return sample() | {name for names in found.values() for name in names[:1]}


def sampled(cases: Iterable[tuple[str, str]]) -> list[object]:
    """Of these cases, a rule and a platform each, those to ask, as parameters: of the rules of the sample
    every one, in a campaign one platform of each other rule, another for the next."""
    by_rule: dict[str, list[tuple[str, str]]] = {}
    for case in cases:
        by_rule.setdefault(case[0], []).append(case)
    chosen: list[object] = []
    for number, (rule, listed) in enumerate(by_rule.items()):
        if rule in sample():
            chosen += [pytest.param(*case) for case in listed]
        else:
            chosen.append(pytest.param(*listed[number % len(listed)], marks=pytest.mark.campaign))
    return chosen
