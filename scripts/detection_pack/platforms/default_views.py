"""What an analyst sees of a rule that states no ``alert:``: who, where and what, as its log source has it.

The rule's ``fields:`` and, of a correlation, the fields that it groups by are added to the text. What a
platform cannot show is left out there, and an alert that would name nobody and nothing is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from sigma.rule import SigmaRule

from detection_pack.model.findings import PackError
from detection_pack.model.pipeline import Pipeline
from detection_pack.model.rule import AlertView, Rule
from detection_pack.platforms.conversion import Part

#: Either names whom an alert is about.
_NAMING = ("user", "source")
#: Of a title as the type of an alert, which Sentinel puts into a name of 256 characters.
_LONGEST_TYPE = 200
#: Of `fields:`, as many as are shown: each alert says all of them in one line.
_MOST_FIELDS = 10
_COUNTED = ("event_count", "value_count")


def with_view(rule: Rule, pipeline: Pipeline, title: str, make: Callable[[Rule], Part]) -> Part:
    """What ``make`` gives for the rule, as it is if it states a view, else with the fullest view that the
    platform, which is called ``title``, can show. Raises `PackError` of ``make``, and where no view names
    anybody or anything."""
    if rule.main.data.get("alert") is not None:
        return make(rule)
    bare = _bare(rule)
    known = _knows(rule, pipeline)
    stated = pipeline.alert_defaults(rule)
    columns = {key: name for key in AlertView.FIELDS.values() if (name := getattr(stated, key))}
    unfilled = {key: f'nothing maps "{name}"' for key, name in columns.items() if not known(name)}
    full = replace(bare, **{key: name for key, name in columns.items() if key not in unfilled})
    stated_aliases = rule.main.data.get("correlation", {}).get("aliases") or {}
    full = _with_fields(rule, full, (n for n in _added(rule) if known(n) or n in stated_aliases))
    try:
        part = make(rule.showing(full))
    except PackError as error:
        part = make(rule.showing(bare))  # raises what the rule itself is refused for
        mapped = any(getattr(full, key) for key in _NAMING)
        full, unfilled, part = _fullest(rule, full, part, make, unfilled)
        if mapped and not any(getattr(full, key) for key in _NAMING):
            raise error  # such as a query that is too long with any of it
    if columns and not any(getattr(full, key) for key in _NAMING):
        what = f"an alert of {title} would name no account, host, mailbox or address"
        whys = "; ".join(dict.fromkeys(unfilled[key] for key in _NAMING if key in unfilled))
        raise PackError.at(rule.path, rule.main.line(), f"{what} ({whys})", "state them under alert:")
    return replace(part, unfilled=unfilled)


def _fullest(
    rule: Rule, full: AlertView, part: Part, make: Callable[[Rule], Part], unfilled: Mapping[str, str]
) -> tuple[AlertView, dict[str, str], Part]:
    """One part of the view after the other, as long as the platform can show it."""
    found, refused = _bare(rule), dict(unfilled)
    for key in AlertView.FIELDS.values():
        if (name := getattr(full, key)) is None:
            continue
        tried = replace(found, **{key: name})
        try:
            found, part = tried, make(rule.showing(tried))
        except PackError as error:
            refused[key] = error.findings[0].what
    for name in _fields_of(full):
        tried = _with_fields(rule, found, [*_fields_of(found), name])
        try:
            found, part = tried, make(rule.showing(tried))
        except PackError:
            continue  # a field that the author would like to see, no more
    return found, refused, part


def _bare(rule: Rule) -> AlertView:
    title = rule.title if len(rule.title) <= _LONGEST_TYPE else f"{rule.title[: _LONGEST_TYPE - 1]}…"
    return AlertView(type=title, detail=_text(rule, title, ()))


def _text(rule: Rule, title: str, fields: Iterable[str]) -> str:
    shown = title.replace("{", "(").replace("}", ")")
    correlation = rule.correlation
    parts = ["{count} in {window}"] if correlation is not None and correlation.type in _COUNTED else []
    parts += [f"{name}: {{{name}}}" for name in fields]
    return f"{shown}: {', '.join(parts)}" if parts else shown


def _with_fields(rule: Rule, view: AlertView, fields: Iterable[str]) -> AlertView:
    columns = [getattr(view, key) for key in AlertView.FIELDS.values()]
    added = [name for name in dict.fromkeys(fields) if name not in columns]
    return replace(view, detail=_text(rule, view.type, added))


def _fields_of(view: AlertView) -> list[str]:
    return [part for named, part in view.detail_parts() if named and part not in ("count", "window")]


def _added(rule: Rule) -> list[str]:
    """What a correlation groups by, then what Sigma's ``fields:`` name, of all documents of the rule."""
    grouped = rule.correlation.group_by if rule.correlation is not None else ()
    stated: list[str] = []
    for document in rule.documents:
        listed = document.data.get("fields")
        stated += [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    return [*grouped, *list(dict.fromkeys(stated))[:_MOST_FIELDS]]


def _knows(rule: Rule, pipeline: Pipeline) -> Callable[[str], bool]:
    plain = [one for one in rule.parsed.rules if isinstance(one, SigmaRule)]
    mappings = [pipeline.mapping_of(one) for one in plain]
    return lambda name: not set(name) & set("{}") and all(mapping.knows(name) for mapping in mappings)
