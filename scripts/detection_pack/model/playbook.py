"""What to do after an alert, as ``response/playbook.yml`` and ``response/investigation.yml`` have it: steps
by kind of rule, and for each kind what is normal, the questions in order and the queries that answer them.

A kind names its rules. The rules of others belong to none, and get no guide.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from detection_pack.model.documents import Document, Key, load_documents
from detection_pack.model.findings import Finding, PackError

FOLDER = Path("response")
PLAYBOOK, GUIDE = FOLDER / "playbook.yml", FOLDER / "investigation.yml"
CHECK = "playbook"
#: How a command is run, and the language of its fence.
HOWS = {"powershell": "powershell", "http": "http", "shell": "sh", "console": "text", "person": "text"}
_STEP = ("id", "phase", "title", "how", "command", "right", "breaks", "undo", "source", "read")
_MAY = ("keeps", "unconfirmed")
_KIND = ("id", "title", "rules", "steps")
_ABOUT = ("normal", "questions", "cannot_show")
_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
#: A file that the case fills in, and one that a command writes (or a person at a portal copies into).
_FILE = re.compile(r"\b[A-Z][A-Z_]*_FILE\b")
_WRITTEN = re.compile(
    r"(?:Export-(?:Clixml|Csv) |wevtutil epl (?:\"[^\"]*\"|\S+) |> ?|into )(" + _FILE.pattern + ")"
)


@dataclass(frozen=True)
class Step:
    """One step. ``heading``: what its phase is called. ``command`` is as it is run (several lines: one after
    the other), ``right`` what it needs, ``keeps`` what evidence it keeps and for how long it is there,
    ``read`` when ``source`` was read, ``unconfirmed`` what no source states (empty: nothing)."""

    id: str
    phase: str
    title: str
    how: str
    command: str
    right: str
    breaks: str
    undo: str
    source: str
    read: str
    heading: str = ""
    keeps: str = ""
    unconfirmed: str = ""


@dataclass(frozen=True)
class Question:
    """A question and the names of the investigation queries that answer it."""

    ask: str
    queries: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """What is done after an alert of these rules."""

    id: str
    title: str
    rules: tuple[str, ...]
    steps: tuple[Step, ...]
    normal: str = ""
    questions: tuple[Question, ...] = ()
    cannot_show: tuple[str, ...] = ()

    @property
    def queries(self) -> tuple[str, ...]:
        """The names of all queries of its questions, once each."""
        return tuple(dict.fromkeys(name for one in self.questions for name in one.queries))


@dataclass(frozen=True)
class Guide:
    """What a rule's artefacts say of an alert of it: its kind, what the log source says its fields mean, and
    by platform the titles of its investigation queries by name."""

    kind: Kind
    meanings: Mapping[str, str] = field(default_factory=dict)
    titles: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Playbook:
    """All kinds and all steps, in the order of the file. ``phases``: their titles in the order of a page (a
    kind states its own order of steps); ``connect``: what is run before the commands."""

    kinds: tuple[Kind, ...] = ()
    steps: tuple[Step, ...] = ()
    phases: Mapping[str, str] = field(default_factory=dict)
    connect: Mapping[str, str] = field(default_factory=dict)

    def kind_of(self, rule: str) -> Kind | None:
        """The kind that names a rule; None where none does."""
        return next((kind for kind in self.kinds if rule in kind.rules), None)


def load_playbook(root: Path) -> Playbook:
    """The playbook of a pack; an empty one where it has none. Raises `PackError` with every fault."""
    return read_playbook(root)[0] if (root / PLAYBOOK).is_file() else Playbook()


def read_playbook(root: Path) -> tuple[Playbook, tuple[Document, ...]]:
    """The playbook and its documents. Raises `PackError` with every fault."""
    [steps_of] = load_documents(root / PLAYBOOK)
    guides = load_documents(root / GUIDE) if (root / GUIDE).is_file() else []
    reader = _Reader(steps_of)
    steps = {step.id: step for step in reader.steps()}
    about: Mapping[str, Any] = {}
    told = _Reader(guides[0]) if guides else None
    if told is not None:
        about = told.guides()
    kinds = tuple(reader.kinds(steps, about))
    if told is not None:
        known = {kind.id for kind in kinds}
        for name in about:
            if name not in known:
                told.fault(("kinds", name), f'"{name}" is not a kind of the playbook', "name one that is")
    faults = [*reader.faults, *(told.faults if told is not None else ())]
    if faults:
        raise PackError(faults)
    connect = steps_of.data.get("connect") or {}
    told_to = {str(k): str(v) for k, v in connect.items()}
    made = Playbook(kinds, tuple(steps.values()), reader.phases(), told_to)
    return made, (steps_of, *guides)


def dangling(
    playbook: Playbook, documents: Sequence[Document], rules: Mapping[str, str]
) -> Iterator[Finding]:
    """What a kind names that the pack does not have. ``rules``: name to tier."""
    for number, kind in enumerate(playbook.kinds):
        for index, name in enumerate(kind.rules):
            if name not in rules:
                line = documents[0].line("kinds", number, "rules", index)
                what = f'"{name}" is not a rule of the pack'
                yield Finding(str(documents[0].path), line, what, "name one that is", CHECK)
        for index, question in enumerate(kind.questions):
            for name in question.queries:
                if name not in rules:
                    line = documents[1].line("kinds", kind.id, "questions", index)
                    what = f'"{name}" is not a query of the pack'
                    yield Finding(
                        str(documents[1].path), line, what, "name one of sigma/investigation", CHECK
                    )


class _Reader:
    """One reading of a document: what is faulty is reported and left out, and reading goes on."""

    def __init__(self, document: Document) -> None:
        self.document, self.faults = document, list[Finding]()
        if not isinstance(document.data, dict):
            raise PackError.at(document.path, 1, "is not a mapping", "write key: value", CHECK)

    def phases(self) -> dict[str, str]:
        stated = self.document.data.get("phases")
        if not isinstance(stated, dict) or not stated:
            self.fault(("phases",), "states no phases", "write each with its title")
            return {}
        return {str(key): str(title) for key, title in stated.items()}

    def steps(self) -> Iterator[Step]:
        phases = self.phases()
        seen: set[str] = set()
        for index, one in self.members("steps"):
            at = ("steps", index)
            if not self.complete(at, one, _STEP, _MAY):
                continue
            texts = {key: str(value).strip() for key, value in one.items()}
            if not _ID.fullmatch(texts["id"]) or texts["id"] in seen:
                self.fault(
                    (*at, "id"), f'"{texts["id"]}" cannot be the id of this step', "write a-z, 0-9 and -"
                )
            for key, known in (("phase", phases), ("how", HOWS)):
                if texts[key] not in known:
                    what = f'"{texts[key]}" is not a {key}'
                    self.fault((*at, key), what, f"use {', '.join(known)}")
            try:
                date.fromisoformat(texts["read"])
            except ValueError:
                self.fault((*at, "read"), f'"{texts["read"]}" is not a date', "write one such as 2026-11-26")
            for name, times in Counter(_WRITTEN.findall(texts["command"])).items():
                if times > 1:
                    what = f'"{name}" is written twice, and the second overwrites the first'
                    self.fault((*at, "command"), what, "give each file its own name")
            seen.add(texts["id"])
            yield Step(**texts, heading=phases.get(texts["phase"], ""))

    def kinds(self, steps: Mapping[str, Step], about: Mapping[str, Any]) -> Iterator[Kind]:
        owner: dict[str, str] = {}
        for index, one in self.members("kinds"):
            at = ("kinds", index)
            if not self.complete(at, one, _KIND):
                continue
            rules, named = self.texts((*at, "rules"), one["rules"]), self.texts((*at, "steps"), one["steps"])
            for number, name in enumerate(rules):
                if (other := owner.setdefault(name, str(one["id"]))) != one["id"]:
                    self.fault((*at, "rules", number), f'"{name}" is of the kind {other} too', "name it once")
            for number, name in enumerate(named):
                if name not in steps:
                    self.fault((*at, "steps", number), f'"{name}" is not a step', "name one under steps")
            found = tuple(steps[name] for name in named if name in steps)
            written: set[str] = set()
            for number, step in enumerate(found):
                for name in _FILE.findall(step.undo):
                    if name not in written:
                        what = f'"{name}" is written by no step before {step.id}, whose undo reads it'
                        self.fault((*at, "steps", number), what, "name the step that writes it first")
                written.update(_WRITTEN.findall(step.command))
            yield Kind(str(one["id"]), str(one["title"]), rules, found, **about.get(str(one["id"]), {}))

    def guides(self) -> dict[str, dict[str, Any]]:
        """What the guide says of each kind, as the arguments of `Kind`."""
        stated = self.document.data.get("kinds")
        found: dict[str, dict[str, Any]] = {}
        for name, one in stated.items() if isinstance(stated, dict) else ():
            at = ("kinds", name)
            if not self.complete(at, one, _ABOUT):
                continue
            questions = tuple(self.questions((*at, "questions"), one["questions"]))
            unseen = self.texts((*at, "cannot_show"), one["cannot_show"])
            found[str(name)] = {
                "normal": str(one["normal"]).strip(),
                "questions": questions,
                "cannot_show": unseen,
            }
        return found

    def questions(self, at: tuple[Key, ...], stated: Any) -> Iterator[Question]:
        for index, one in enumerate(stated if isinstance(stated, list) else ()):
            if self.complete((*at, index), one, ("ask",), ("queries",)):
                yield Question(str(one["ask"]), self.texts((*at, index, "queries"), one.get("queries") or []))

    # ---- shapes -------------------------------------------------------------------------------------

    def members(self, key: str) -> Iterable[tuple[int, Any]]:
        stated = self.document.data.get(key)
        if not isinstance(stated, list) or not stated:
            self.fault((key,), f'states no "{key}"', "write a list of mappings")
            return ()
        return enumerate(stated)

    def complete(self, at: tuple[Key, ...], one: Any, needed: Sequence[str], may: Sequence[str] = ()) -> bool:
        if not isinstance(one, dict):
            self.fault(at, "is not a mapping", f"write {', '.join(needed)}")
            return False
        missing = [key for key in needed if not one.get(key)]
        strange = [str(key) for key in one if key not in (*needed, *may)]
        if missing:
            self.fault(at, f"lacks {', '.join(missing)}", f"write {', '.join(needed)}")
        if strange:
            self.fault(
                (*at, strange[0]), f'"{strange[0]}" is unknown here', f"use {', '.join((*needed, *may))}"
            )
        return not missing and not strange

    def texts(self, at: tuple[Key, ...], value: Any) -> tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(one, str) and one.strip() for one in value):
            return tuple(value)
        self.fault(at, f'"{at[-1]}" is not a list of texts', "write a list")
        return ()

    def fault(self, at: tuple[Key, ...], what: str, todo: str) -> None:
        self.faults.append(Finding(str(self.document.path), self.document.line(*at), what, todo, CHECK))
