"""The files of all log sources as one plain pySigma pipeline a platform.

A file's items say nothing of the log source that they are for: every item gets its condition here, beside
the item's own. Of several log sources that could serve a rule, the one that says most of it does. Each gets a
guard after its mappings of fields: a field that nothing maps would make a query that is silently empty, and
is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detection_pack.model.findings import PackError
from detection_pack.model.log_source import LogSource
from detection_pack.model.source_pipeline import SourceFile, fits

#: pySigma applies pipelines by their priority: a site's own may come before or after.
PRIORITY = 50
_CONDITIONS = ("rule_conditions", "detection_item_conditions", "field_name_conditions")
Item = dict[str, Any]
Pairs = Mapping[str, str]


@dataclass(frozen=True)
class Scope:
    """The rules of a log source: those that have all pairs of one of ``served`` and not all pairs of one of
    those that it is mapped to, which say more and belong to another log source."""

    served: tuple[tuple[Pairs, tuple[Pairs, ...]], ...]

    def serves(self, logsource: Mapping[str, str | None]) -> bool:
        """Whether it serves a rule of this log source."""

        def has(pairs: Pairs) -> bool:
            return all(logsource.get(key) == value for key, value in pairs.items())

        return any(has(pairs) and not any(map(has, others)) for pairs, others in self.served)

    def limited(self, item: Item) -> Item:
        """The item with the condition of the log source beside its own."""
        rest = {key: value for key, value in item.items() if not key.startswith("rule_cond")}
        return {**rest, **(self._simple(item) or self._general(item))}

    def _simple(self, item: Item) -> Item | None:
        """A list of conditions, where it can say it."""
        if len(self.served) > 1 or self.served[0][1] or item.get("rule_cond_not") or "rule_cond_expr" in item:
            return None
        pairs = self.served[0][0]
        stated = item.get("rule_conditions") or []
        own = list(stated.values()) if isinstance(stated, dict) else list(stated)
        if any(c["type"] == "logsource" and not fits(c, pairs) for c in own):
            return None
        narrowed = [{**c, **pairs} if c["type"] == "logsource" else c for c in own]
        if item.get("rule_cond_op") == "or" and len(own) > 1:
            every = all(condition["type"] == "logsource" for condition in own)
            return {"rule_conditions": narrowed, "rule_cond_op": "or"} if every else None
        alone = [] if any(c["type"] == "logsource" for c in own) else [_logsource(pairs)]
        return {"rule_conditions": [*alone, *narrowed]}

    def _general(self, item: Item) -> Item:
        """Conditions by name and an expression over them."""
        stated = item.get("rule_conditions") or []
        listed = list(stated.values()) if isinstance(stated, dict) else stated
        own: Item = (
            dict(stated)
            if "rule_cond_expr" in item
            else {f"own_{n}": c for n, c in enumerate(listed, start=1)}
        )
        prefix = "source"
        while any(name.startswith(prefix) for name in own):
            prefix += "_"
        conditions: dict[str, Item] = {}
        said = []
        for number, (pairs, others) in enumerate(self.served, start=1):
            name = f"{prefix}{number}"
            conditions[name] = _logsource(pairs)
            names = [f"{name}_not_{n}" for n in range(1, len(others) + 1)]
            conditions |= {key: _logsource(other) for key, other in zip(names, others, strict=True)}
            said.append(f"({name} and not ({' or '.join(names)}))" if names else name)
        expression = f"({' or '.join(said)})"
        if own:
            linked = (" or " if item.get("rule_cond_op") == "or" else " and ").join(own)
            negated = "not " if item.get("rule_cond_not") else ""
            expression += f" and {negated}({item.get('rule_cond_expr', linked)})"
        return {"rule_conditions": conditions | own, "rule_cond_expr": expression}


def scopes(sources: Mapping[str, LogSource]) -> dict[str, Scope]:
    """The rules that each log source serves, in view of the others."""
    found = {}
    for name, source in sources.items():
        others = [pairs for other in sources.values() if other is not source for pairs in other.logsources]
        served = [
            (pairs, tuple(other for other in others if fits(pairs, other) and len(other) > len(pairs)))
            for pairs in source.logsources
        ]
        found[name] = Scope(tuple(served))
    return found


def merged(
    platform: str, sources: Mapping[str, LogSource], files: Mapping[str, Sequence[SourceFile]]
) -> dict[str, Any]:
    """One pipeline of pySigma's. ``files``: those of each log source that the platform has."""
    scope = scopes(sources)
    items = list(_undecided(sources))
    for name in sorted(files):
        ordered = sorted(files[name], key=lambda file: file.priority)
        items += _of_source(platform, sources[name], scope[name], ordered)
    backends = [file.document.data.get("allowed_backends") for own in files.values() for file in own]
    stated = sorted({backend for listed in backends for backend in listed or ()})
    allowed = {"allowed_backends": stated} if stated else {}
    return {"name": f"Detection pack, {platform}", "priority": PRIORITY, **allowed, "transformations": items}


def _of_source(platform: str, source: LogSource, scope: Scope, files: Sequence[SourceFile]) -> list[Item]:
    items = []
    known: set[str] = set()
    for file in files:
        for index, stated in enumerate(file.items):
            item = copy.deepcopy(stated)
            name = f"{source.name}_{item.get('id') or f'{file.path.stem}_{index + 1}'}"
            if name in known:
                _refuse(file, index, "id", f'the id "{item.get("id")}" is that of an item of another file')
            known.add(name)
            _name_references(item, source.name, known, file, index)
            items.append({"id": name, **scope.limited({k: v for k, v in item.items() if k != "id"})})
    at, guard = _guard(platform, source, items)
    return [*items[:at], {"id": guard.pop("id"), **scope.limited(guard)}, *items[at:]]


def _name_references(item: Item, source: str, known: set[str], file: SourceFile, index: int) -> None:
    """Conditions on another item having been applied name it by its new name."""
    for key in _CONDITIONS:
        stated = item.get(key) or []
        for condition in stated.values() if isinstance(stated, dict) else stated:
            if "processing_item_id" in condition:
                condition["processing_item_id"] = f"{source}_{condition['processing_item_id']}"
                if condition["processing_item_id"] not in known:
                    _refuse(file, index, key, "names an item that does not stand before this one")


def _guard(platform: str, source: LogSource, items: Sequence[Item]) -> tuple[int, Item]:
    """Where the guard of a log source stands, and what it is.

    Digests that are taken out of one text become items that no mapping has been applied to: it stands
    before that. A value without a field is not its business.
    """
    ends = [at for at, item in enumerate(items) if item["type"] == "hashes_fields"] or [len(items)]
    kinds = ("field_name_mapping", "field_name_prefix_mapping")
    mappings = [at for at in range(ends[0]) if items[at]["type"] in kinds]
    where = f"pipelines/{source.name}/{platform}.yml"
    guard: Item = {
        "id": f"{source.name}_unknown_field",
        "type": "detection_item_failure",
        "message": f"the field is unknown to {where}; map it there, or name one that is",
        "field_name_conditions": [{"type": "include_fields", "mode": "re", "fields": [".+"]}],
    }
    if mappings:
        guard["detection_item_conditions"] = [
            {"type": "processing_item_applied", "processing_item_id": items[at]["id"]} for at in mappings
        ]
        guard |= {"detection_item_cond_op": "or", "detection_item_cond_not": True}
    return (mappings[-1] + 1 if mappings else 0), guard


def _undecided(sources: Mapping[str, LogSource]) -> Iterator[Item]:
    """A failure for the rules that two log sources could serve, neither of which says more of them."""
    ordered = sorted(sources.values(), key=lambda source: source.name)
    found = 0
    for number, source in enumerate(ordered):
        for other in ordered[number + 1 :]:
            for mine in source.logsources:
                for theirs in other.logsources:
                    if fits(mine, theirs) and len(mine) == len(theirs):
                        found += 1
                        yield {
                            "id": f"{source.name}_or_{other.name}_{found}",
                            "type": "rule_failure",
                            "message": f"both pipelines/{source.name} and pipelines/{other.name} serve this "
                            "log source; state more of it",
                            "rule_conditions": [_logsource({**mine, **theirs})],
                        }


def _logsource(pairs: Pairs) -> Item:
    return {"type": "logsource", **pairs}


def _refuse(file: SourceFile, index: int, key: str, what: str) -> None:
    line = file.document.line("transformations", index, key)
    raise PackError.at(file.path, line, what, "see the pipelines of the pack", "pipeline")
