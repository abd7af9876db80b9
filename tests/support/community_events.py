"""Process creations that a rule's own values call for, and their near misses."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from support.sigma_semantics import offsets, texts_of

Record = dict[str, Any]

_BASE: Mapping[str, str] = {
    "UtcTime": "2026-03-10 09:15:00",
    "Computer": "ws01.contoso.example",
    "Image": "C:\\Windows\\System32\\svchost.exe",
    "CommandLine": "svchost.exe -k netsvcs",
    "ParentImage": "C:\\Windows\\System32\\services.exe",
    "ParentCommandLine": "C:\\Windows\\System32\\services.exe",
    "User": "CONTOSO\\alice",
    "OriginalFileName": "svchost.exe",
    "IntegrityLevel": "Medium",
    "Product": "Microsoft Windows Operating System",
    "Company": "Microsoft Corporation",
    "Description": "Host Process for Windows Services",
    "Hashes": "MD5=0123456789ABCDEF0123456789ABCDEF,SHA256=" + "0" * 64,
    "ProcessId": "4242",
    "ParentProcessId": "880",
}
#: What may touch a value: the ends of a term, or more letters of it.
_NEIGHBOURS = ("", " ", "-", "x", "7", "é", "\\", '"', "_", ".")
_PATHS = ("Image", "ParentImage")
#: A text that each expression of the corpus finds.
_FOUND = {
    r"net\s+user\s+": "net  user \t",
    r"\s-e[nc]{1,2}\s": " -enc ",
    r"[a-z0-9]{4}\^[a-z]": "powe^r",
    r"https?://(?:[0-9]{1,3}\.){3}[0-9]{1,3}": "http://192.0.2.7",
    r"(?:Chr\([0-9]+\)\s*&\s*){3}": "Chr(1) & Chr(22)&Chr(3) & ",
    r"\$\{?[a-z]+\}?\s*=\s*\[char\]": "${abc} = [char]",
    r"^[a-z]:\\users\\[^\\]+\\": "c:\\users\\bob\\x",
    r"^[^ ]+\.exe$": "tool.exe",
    r"(?i)frombase64string": "FromBase64STRING",
    r"\b(?:10|172)\.\d+": "10.2",
    r"(\\[^\\]{1,8}~\d){2}": "\\progra~1\\micros~2",
    r"cmd.{0,5}(?:/c|/r).{3,20}set": "cmd /c 1234 set",
}


def records(detection: Mapping[str, Any], rng: random.Random, count: int) -> Iterator[Record]:
    """``count`` records: about half as the rule describes them, the others changed in one thing."""
    names = [name for name in detection if name != "condition"]
    excluded = [name for name in names if name.startswith("filter")]
    for number in range(count):
        wanted = [name for name in names if name not in excluded or rng.random() < 0.3]
        if number % 4 == 3 and len(wanted) > 1:
            wanted.remove(rng.choice(wanted))
        record: Record = dict(_BASE)
        rng.shuffle(wanted)
        made: dict[str, list[tuple[str, str]]] = {}
        for name in wanted:
            for field, how, text in _wanted(detection[name], rng):
                if text is None:
                    record.pop(field, None)
                else:
                    made.setdefault(field, []).append((how, text))
        for field, pieces in made.items():
            if field in record or field in _BASE:
                record[field] = _joined(field, pieces, rng)
        if number % 2:
            _change(record, sorted(made), rng)
        yield record


def _wanted(selection: Any, rng: random.Random) -> Iterator[tuple[str, str, str | None]]:
    """``(field, where in it, text)`` of one way to satisfy a selection; an absent field has no text."""
    if isinstance(selection, Sequence) and not isinstance(selection, str):
        mappings = [part for part in selection if isinstance(part, Mapping)]
        if mappings:
            yield from _wanted(rng.choice(mappings), rng)
        return
    for key, value in selection.items():
        field, *modifiers = key.split("|")
        values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        chosen = values if "all" in modifiers else [rng.choice(values)]
        for one in chosen:
            yield field, *_text(modifiers, one, rng)


def _text(modifiers: list[str], value: Any, rng: random.Random) -> tuple[str, str | None]:
    if "exists" in modifiers:
        return "whole", "present" if value else None
    if value is None or value == "":
        return "whole", rng.choice((None, ""))
    if "re" in modifiers:
        found = _FOUND[str(value)]
        return ("whole" if str(value).startswith("^") else "contains"), found
    where = next((m for m in modifiers if m in ("contains", "startswith", "endswith")), "whole")
    if "base64offset" in modifiers:
        data = str(value).encode("utf-16-le" if "wide" in modifiers else "utf-8")
        return where, rng.choice(list(offsets(data)))
    text = rng.choice(list(texts_of(str(value), "windash" in modifiers)))
    filled = re.sub("\x01", lambda _: rng.choice(("", "abc", " 1 ")), text).replace("\0", "q")
    return where, filled


def _joined(field: str, pieces: list[tuple[str, str]], rng: random.Random) -> str:
    """The pieces of one field as one text, each where its operator wants it."""
    whole = [text for how, text in pieces if how == "whole"]
    if whole:
        return rng.choice(whole)
    if field == "Hashes":
        by_kind = {text.partition("=")[0].upper(): text for _, text in [("", "SHA1=" + "A" * 40), *pieces]}
        return ",".join(by_kind.values())
    first = [text for how, text in pieces if how == "startswith"][:1]
    last = [text for how, text in pieces if how == "endswith"][:1]
    middle = [text for how, text in pieces if how == "contains"]
    # Half of the pieces are whole terms for certain.
    beside = [_NEIGHBOURS[:3] if rng.random() < 0.5 else _NEIGHBOURS for _ in middle]
    pairs = zip(middle, beside, strict=True)
    touched = [rng.choice(near) + text + rng.choice(near) for text, near in pairs]
    if field == "User":
        return "".join(["NT ", *middle, "TY\\SYSTEM"])
    start = first or (["C:\\tools"] if field in _PATHS else [])
    return "".join([*start, *touched, *last]) + ("" if last or field not in _PATHS else "\\run.exe")


def _change(record: Record, fields: list[str], rng: random.Random) -> None:
    """One near miss, or one change that should not matter."""
    field = rng.choice([f for f in fields if record.get(f)] or ["CommandLine"])
    text = str(record.get(field) or "x")
    at = rng.randrange(len(text) + 1)
    # A digest has as many digits as its kind, whatever happens to it.
    whole = ("case", "drop", "swap")
    kind = rng.choice(whole if field == "Hashes" else (*whole, "neighbour", "cut", "double"))
    if kind == "case":
        record[field] = text.swapcase()
    elif kind == "neighbour":
        record[field] = text[:at] + rng.choice(_NEIGHBOURS) + text[at:]
    elif kind == "drop":
        record.pop(field, None)
    elif kind == "cut":
        record[field] = text[: max(at - 1, 0)] + text[at:]
    elif kind == "swap":
        record[field] = _BASE.get(field, "other")
    else:
        record[field] = rng.choice(("", "x")) + text + rng.choice(("", " ", "7"))
