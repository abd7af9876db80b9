"""SigmaHQ's conventions: pySigma's validators and SigmaHQ's, with data that the product carries.

Left alone the validators download their data and keep it in the user's home. Here every one of their data
sets is a file of this folder, and the cache is a folder that goes at once; what has no file
here never runs (`NEVER`).
"""

from __future__ import annotations

import importlib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from sigma.collection import SigmaCollection
from sigma.exceptions import SigmaRuleLocation
from sigma.rule import SigmaDetection, SigmaDetectionItem, SigmaRule
from sigma.validation import SigmaValidator

from detection_pack.checks.catalogue import CheckInfo
from detection_pack.model.detections import Keys
from detection_pack.model.documents import Document, value_at
from detection_pack.model.findings import Finding, PackError, Severity
from detection_pack.model.log_source import LogSource, source_of
from detection_pack.model.reading import Reading
from detection_pack.model.rule import Rule

CONFIGURATION = "sigma-check.yml"
_DATA = Path(__file__).parent
#: The modules that hold the validators' data: the file that each reads here, and the names that it gives.
_DATA_FILES = {
    "data_filename": ("sigmahq_filename.json", ("sigmahq_filename_pattern",)),
    "data_taxonomy": (
        "sigmahq_taxonomy.json",
        (
            "sigmahq_taxonomy_fieldsname",
            "sigmahq_taxonomy_redundant_fields",
            "sigmahq_taxonomy_logsource_definition",
        ),
    ),
    "data_windows_eventid": ("sigmahq_windows_validator.json", ("sigmahq_category_no_eventid",)),
    "data_windows_provider": ("sigmahq_windows_validator.json", ("sigmahq_provider_name",)),
}
#: What another check says better (`attack_tags`, `literal_wildcards`); what would download D3FEND; and
#: what looks at the clock, so that the same rule is fine on one day only.
NEVER = frozenset(
    {
        "escaped_wildcard",
        "attacktag",
        "sigmahq_tags_techniques_without_tactics",
        "d3_fendtag",
        "sigmahq_status_to_high",
    }
)
#: What `metadata`, `identity` and `sigma_faults` say of every rule of the pack.
_SAID_OF_THE_PACK = frozenset(
    {
        "dangling_condition",
        "identifier_existence",
        "identifier_uniqueness",
        "sigmahq_date_existence",
        "sigmahq_description_existence",
        "sigmahq_description_length",
        "sigmahq_level_existence",
        "sigmahq_status_existence",
    }
)
#: What is known of log sources besides SigmaHQ's taxonomy: those of the pack have a folder.
_OF_LOG_SOURCES = frozenset({"sigmahq_logsource_unknown"})
#: Attributes in which an issue names what it found.
_NAMED = ("field", "value", "string", "word", "tag", "link", "reference", "fieldname", "detection_name")
_NAMED_TOO = ("condition_name", "user", "selection", "filename", "title", "unsupported_regexp", "modifiers")


@cache
def validators() -> Mapping[str, type[Any]]:
    """Every validator by its identifier, but those of `NEVER`."""
    core = importlib.import_module("sigma.validators.core").validators
    sigmahq = importlib.import_module("sigma.validators.sigmahq").validators
    known = {**core, **sigmahq}
    return {name: known[name] for name in sorted(known) if not name.endswith("_base") and name not in NEVER}


def check_id(validator: str) -> str:
    """The id of a validator's findings: SigmaHQ's bear their own names, pySigma's begin with ``sigma-``."""
    name = validator.replace("_", "-")
    return name if name.startswith("sigmahq-") else f"sigma-{name}"


@cache
def catalogue() -> Mapping[str, CheckInfo]:
    """Every validator as a check; the texts are its own."""
    found = {}
    for name, validator in validators().items():
        about = re.sub(r"\s+", " ", validator.__doc__ or name).strip().split(". ")[0].rstrip(".")
        source = "SigmaHQ's" if name.startswith("sigmahq_") else "pySigma's"
        help_text = (
            f"This is {source} validator {name}; {CONFIGURATION} says which of them do not run, and why."
        )
        mend = f"Follow the convention, or silence {name} in {CONFIGURATION} with a reason."
        found[check_id(name)] = CheckInfo(check_id(name), about, help_text, mend=mend)
    return found


#: In place of a detection that cannot be read: there is nothing in it that a convention is about.
_STAND_IN = {"stand_in": {"Stand|exists": True}, "condition": "stand_in"}


@dataclass(frozen=True)
class Checked:
    """A rule to check: the reading, and its rule without the faults that are known already."""

    reading: Reading
    rule: Rule
    sources: Mapping[str, LogSource]


@dataclass(frozen=True)
class _Places:
    """Where the objects of a parsed rule stand in the file, by identity."""

    checked: Checked
    document: Document
    by_object: Mapping[int, Keys]

    @property
    def place(self) -> tuple[Path, int]:
        return self.document.path, self.document.line()


def conventions(root: Path, rules: Sequence[Checked]) -> list[Finding]:
    """Every issue of every validator that the configuration leaves on, at its line."""
    parsed: list[tuple[Any, _Places]] = []
    told: set[tuple[Path, int]] = set()
    for checked in rules:
        # Several correlations may be built of one document.
        new = [(rule, place) for rule, place in _parsed(checked) if place.place not in told]
        told |= {place.place for _, place in new}
        parsed += new
    places = {id(rule): place for rule, place in parsed}
    findings: list[Finding] = []
    _use_local_data()
    for name, validator in _configured(root):
        issues: list[Any] = []
        for rule, _ in parsed:
            issues += _issues(validator, rule)
        issues += _guarded(validator.finalize)
        for issue in issues:
            for rule in issue.rules[1:] if len(issue.rules) > 1 else issue.rules:
                if (place := places.get(id(rule))) is not None:
                    findings += _finding(name, issue, place)
    return findings


@cache
def _use_local_data() -> None:
    """Give the validators their data, once a process.

    The modules look it up in a cache on disk at every use; what they have read is put in the place of that
    look-up, and the cache's folder goes.
    """
    with tempfile.TemporaryDirectory(prefix="detection-pack-") as folder:
        for name, (file, attributes) in _DATA_FILES.items():
            module = importlib.import_module(f"sigma.validators.sigmahq.data.{name}")
            module.set_cache_dir(str(Path(folder) / name))
            module.set_url(str(_DATA / file))
            for attribute in attributes:
                setattr(module, attribute, getattr(module, attribute))
            # Closes the cache's files, which not every system lets go of.
            module.set_cache_dir(str(Path(folder) / "closed"))


def _configured(root: Path) -> list[tuple[str, Any]]:
    """The validators that run, each an instance of its own, in the order of their names."""
    known = dict(validators())
    path = root / CONFIGURATION
    try:
        stated = (
            yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {"validators": ["all"]}
        )
        listed = [v for v in stated.get("validators", []) if str(v).removeprefix("-") not in NEVER]
        configured = SigmaValidator.from_dict({**stated, "validators": listed}, known)
    except Exception as error:  # PyYAML's and pySigma's
        what = str(error).split("\n")[0]
        raise PackError.at(path, 1, what, "see pySigma's documentation of validators") from error
    by_class = {validator: name for name, validator in known.items()}
    return sorted(((by_class[type(v)], v) for v in configured.validators), key=lambda entry: entry[0])


def _parsed(checked: Checked) -> list[tuple[Any, _Places]]:
    documents = [document.as_written for document in checked.rule.documents]
    if not documents:
        return []
    # The rules of a collection are sorted; one at a time they keep their document.
    collections = [_collection(checked, document) for document in documents]
    read = [collection for collection in collections if collection is not None]
    with suppress(Exception):  # a correlation's missing rule is reported as that
        SigmaCollection.merge(read, resolve_references=False).resolve_rule_references()
    found = []
    for document, collection in zip(documents, collections, strict=True):
        for rule in collection.rules if collection is not None else ():
            by_object = dict(_by_object(rule, document)) if isinstance(rule, SigmaRule) else {}
            found.append((rule, _Places(checked, document, by_object)))
    return found


def _collection(checked: Checked, document: Document) -> SigmaCollection | None:
    """A document's rule, without its detection where that cannot be read; None where nothing can."""
    source = SigmaRuleLocation(document.path)
    tries = [_copy(document.data)]
    if "correlation" not in document.data:
        tries.append({**tries[0], "detection": _copy(_STAND_IN)})
    for data in tries:
        with suppress(Exception):  # reported as a fault of Sigma
            return SigmaCollection.from_dicts([data], source=source, resolve_references=False)
    return None


def _copy(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _copy(value) for key, value in data.items()}
    return [_copy(value) for value in data] if isinstance(data, list) else data


def _by_object(rule: SigmaRule, document: Document) -> Iterator[tuple[int, Keys]]:
    stated = document.data.get("detection")
    for name, detection in rule.detection.detections.items():
        if not isinstance(stated, dict) or name not in stated:
            return  # the stand-in
        yield from _of_detection(detection, document.data["detection"][name], ("detection", name))


def _of_detection(detection: SigmaDetection, data: Any, keys: Keys) -> Iterator[tuple[int, Keys]]:
    if isinstance(data, dict):
        for item, (key, value) in zip(detection.detection_items, data.items(), strict=True):
            yield from _of_item(item, value, (*keys, key))
    elif isinstance(data, list) and any(isinstance(entry, dict | list) for entry in data):
        for index, (item, value) in enumerate(zip(detection.detection_items, data, strict=True)):
            if isinstance(item, SigmaDetection):
                yield from _of_detection(item, value, (*keys, index))
    else:
        yield from _of_item(detection.detection_items[0], data, keys)


def _of_item(item: Any, data: Any, keys: Keys) -> Iterator[tuple[int, Keys]]:
    if not isinstance(item, SigmaDetectionItem):
        return
    yield id(item), keys
    one_to_one = isinstance(data, list) and len(item.value) == len(data)
    for index, value in enumerate(item.value):
        yield id(value), (*keys, index) if one_to_one else keys


def _issues(validator: Any, rule: Any) -> list[Any]:
    return _guarded(lambda: validator.validate(rule))


def _guarded(run: Any) -> list[Any]:
    try:
        return list(run())
    except Exception:  # a validator that stumbles over a faulty rule has nothing to say of it
        return []


def _finding(name: str, issue: Any, place: _Places) -> Iterator[Finding]:
    reading = place.checked.reading
    if reading.in_pack and name in _SAID_OF_THE_PACK:
        return
    if name in _OF_LOG_SOURCES and source_of(place.checked.sources, place.checked.rule.logsource) is not None:
        return
    named = [_text(getattr(issue, a)) for a in (*_NAMED, *_NAMED_TOO) if getattr(issue, a, None) is not None]
    what = re.sub(r"\s+", " ", str(issue.description)).strip().rstrip(".")
    what += f" ({', '.join(named)})" if named else ""
    severity: Severity = "error" if reading.in_pack else "warning"
    keys = _keys(name, issue, place)
    if keys[:1] == ("detection",) and not place.by_object:
        return  # of the stand-in
    line = place.document.line(*keys)
    if keys and named:
        line = reading.line_within(place.document, keys, named[-1])
    todo = f"follow the convention, or silence {name} in {CONFIGURATION} with a reason"
    yield Finding(str(place.document.path_of(*keys)), line, what, todo, check_id(name), severity)


def _text(value: Any) -> str:
    if isinstance(value, set | frozenset | list | tuple):
        return ", ".join(sorted(getattr(v, "__name__", str(v)) for v in value))
    return str(value)


def _keys(name: str, issue: Any, place: _Places) -> Keys:
    """What an issue is about: the object that it holds, else what it names, else its validator's key."""
    data = place.document.data
    for attribute in ("string", "detection_item", "value"):
        if (keys := place.by_object.get(id(getattr(issue, attribute, None)))) is not None:
            return keys
    if (tag := getattr(issue, "tag", None)) is not None:
        return ("tags", *_last(data.get("tags"), str(tag), whole=True))
    if (selection := getattr(issue, "detection_name", None)) is not None:
        return ("detection", str(selection))
    if (field := getattr(issue, "field", None)) is not None:
        return _item(place, str(field), getattr(issue, "value", None) or getattr(issue, "user", None))
    if (pattern := getattr(issue, "unsupported_regexp", None)) is not None:
        return next(
            (k for k in place.by_object.values() if str(pattern) in str(value_at(data, k))), ("detection",)
        )
    keys = tuple(_key_of().get(name, "").split())
    named = [getattr(issue, a) for a in ("word", "link", "reference") if getattr(issue, a, None)]
    if named and keys:
        return (*keys, *_last(value_at(data, keys), str(named[0]), whole=False))
    return keys


@cache
def _key_of() -> Mapping[str, str]:
    lines = (_DATA / "conventions.csv").read_text(encoding="utf-8").splitlines()[1:]
    return {name: key for name, _, key in (line.partition(",") for line in lines)}


def _last(values: Any, said: str, whole: bool) -> Keys:
    """The index of the last entry that says so: of two equal ones the second is to blame."""
    if not isinstance(values, list):
        return ()
    said = said.lower()
    forms = (lambda v: (v, f"*{v}*", f"{v}*", f"*{v}")) if whole else (lambda v: v)
    found = [i for i, v in enumerate(values) if said in forms(str(v).lower())]
    return (found[-1],) if found else ()


def _item(place: _Places, field: str, value: Any) -> Keys:
    """The item of a field, or the last of its values that is ``value``."""
    items = [k for k in place.by_object.values() if str(k[-1]).split("|")[0] == field]
    if value is None:
        return items[0] if items else ("detection",)
    for keys in items:
        listed = value_at(place.document.data, keys)
        if isinstance(listed, list) and (last := _last(listed, str(value), whole=True)):
            return (*keys, *last)
    return items[0] if items else ("detection",)
