"""Which rules a correlation refers to, by name or id, among all that are read with it."""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sigma.correlations import SigmaExtendedCorrelationCondition

from detection_pack.model.detections import Fault, Keys
from detection_pack.model.documents import Document
from detection_pack.model.reading import Reading
from detection_pack.model.sigma_faults import INEXPRESSIBLE, SIGMA


@dataclass(frozen=True)
class Reference:
    """What a correlation says of another rule: its name or id, and where."""

    keys: Keys
    name: str


def references(document: Document) -> tuple[Reference, ...]:
    """The rules that a correlation names, in its order. What is no text is a fault of its own."""
    stated = document.data["correlation"]
    rules = stated.get("rules")
    place: Keys = ("correlation", "rules")
    if isinstance(rules, list):
        return tuple(Reference((*place, n), r) for n, r in enumerate(rules) if isinstance(r, str))
    if isinstance(rules, str):
        return (Reference(place, rules),)
    condition = stated.get("condition")
    if rules is None and isinstance(condition, str):
        try:
            named = SigmaExtendedCorrelationCondition(condition).get_referenced_rules()
        except Exception:  # reported as a fault of Sigma
            return ()
        return tuple(Reference(("correlation", "condition"), name) for name in named)
    return ()


def generates(document: Document) -> bool:
    """Whether the rules of a correlation are to be built on their own, too: pySigma reads the key inside
    ``correlation``, the specification shows it at the top."""
    return document.data["correlation"].get("generate") is True or document.data.get("generate") is True


def _key(reference: str) -> str | uuid.UUID:
    """As pySigma takes it: what can be a UUID is an id, everything else a name."""
    try:
        return uuid.UUID(reference)
    except ValueError:
        return reference


_MOST_ADVISED = 50


@dataclass(frozen=True)
class Index:
    """Rules by what they are called. ``where`` says in messages what was searched."""

    where: str
    advice: str
    _by_key: dict[str | uuid.UUID, list[Document]] = field(default_factory=dict)
    _names: dict[str, None] = field(default_factory=dict)
    _advised: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, documents: Iterable[Document], where: str, advice: str) -> Index:
        index = cls(where, advice)
        for document in documents:
            name, identifier = document.data.get("name"), document.data.get("id")
            if isinstance(name, str) and name:
                index._add(name, name, document)
            if isinstance(identifier, str) and isinstance(key := _key(identifier), uuid.UUID):
                index._add(key, identifier, document)
        return index

    def _add(self, key: str | uuid.UUID, said: str, document: Document) -> None:
        self._by_key.setdefault(key, []).append(document)
        self._names[said] = None

    def found(self, reference: str) -> list[Document]:
        """Every rule of this name or id."""
        return self._by_key.get(_key(reference), [])

    def advised(self, reference: str) -> str:
        """What to do about a reference that is to no rule. Names are compared a few times only: a list of
        thousands takes minutes."""
        self._advised.append(reference)
        if len(self._advised) > _MOST_ADVISED:
            return self.advice
        near = difflib.get_close_matches(reference, list(self._names), n=1, cutoff=0.6)
        return f'did you mean "{near[0]}"?' if near else self.advice


@dataclass(frozen=True)
class Resolved:
    """The rules of a correlation, once each in its order, and what is wrong with its references."""

    documents: tuple[Document, ...]
    faults: tuple[Fault, ...]


def resolved(reading: Reading, correlation: Document, index: Index, own: Sequence[Document]) -> Resolved:
    """What a correlation refers to; of several rules of one name that of its ``own`` file is meant, then
    that of its folder."""
    found: dict[int, Document] = {}
    meant: dict[str, Document] = {}
    faults: list[Fault] = []
    for reference in references(correlation):
        document, fault = _one(reading, correlation, reference, index, own)
        if fault is not None:
            faults.append(fault)
        if document is not None:
            found.setdefault(id(document), document)
            meant[reference.name] = document
    # pySigma looks a name up among all of them, whatever they were found by.
    called: dict[str, list[Document]] = {}
    for document in found.values():
        called.setdefault(str(document.data.get("name")), []).append(document)
    for reference in references(correlation):
        if reference.name in meant and len(same := called.get(reference.name, [])) > 1:
            faults.append(_ambiguous(reading, correlation, reference, same))
    return Resolved(tuple(found.values()), tuple(faults))


def _one(
    reading: Reading, correlation: Document, reference: Reference, index: Index, own: Sequence[Document]
) -> tuple[Document | None, Fault | None]:
    every = index.found(reference.name)
    file = [document for document in every if any(document is one for one in own)]
    folder = [document for document in every if document.path.parent == correlation.path.parent]
    candidates = file or folder or every
    if not candidates:
        what = f'correlates "{reference.name}", which {index.where}'
        todo = index.advised(reference.name)
        return None, reading.fault(SIGMA, correlation, reference.keys, what, todo)
    if len(candidates) > 1:
        return None, _ambiguous(reading, correlation, reference, candidates)
    if "correlation" in candidates[0].data:
        what = f'correlates "{reference.name}", which is a correlation itself (these cannot be nested)'
        todo = "correlate the rules themselves"
        return None, reading.fault(INEXPRESSIBLE, correlation, reference.keys, what, todo)
    return candidates[0], None


def _ambiguous(
    reading: Reading, correlation: Document, reference: Reference, documents: Sequence[Document]
) -> Fault:
    places = " and ".join(f"{d.path}:{d.line('name')}" for d in documents[:3])
    what = f'correlates "{reference.name}", which is the name of several rules: {places}'
    return reading.fault(SIGMA, correlation, reference.keys, what, "name it by its id")


def correlations_of(documents: Iterable[Document]) -> Iterator[Document]:
    return (document for document in documents if "correlation" in document.data)
