"""Windows events as XML text, as Splunk keeps them and Event Viewer saves them.

Source: the event schema (learn.microsoft.com, "Event Schema"): System with its elements, EventData with
Data. Only that is read, by its marks alone: no document type, no entity but the five of XML and numbers.
"""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Iterator
from typing import IO, Any

from detection_pack.model.event_data import of_xml
from detection_pack.replay.json_values import Entry

BLOCK, LONGEST = 1 << 20, 32 << 20
_EVENT = re.compile(r"<Event[\s>].*?</Event>", re.DOTALL)
_SYSTEM = re.compile(r"<System>(.*?)</System>", re.DOTALL)
_ELEMENT = re.compile(r"<(\w+)(?:\s[^<>]*)?>([^<]*)</\1>")
_ATTRIBUTE = re.compile(r"\s(\w+)=(?:\"([^\"<>]*)\"|'([^'<>]*)')")


def events(stream: IO[bytes], first_line: int = 1) -> Iterator[Entry]:
    """Each event as an object of its named values, and of System those that stand alone and the time."""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    text, line, ended = "", first_line, False
    while not ended:
        block = stream.read(BLOCK)
        ended = not block
        text += decode(block, ended)
        at = 0
        for found in _EVENT.finditer(text):
            line += text.count("\n", at, found.start())
            yield Entry(line, event(found[0]))
            line += text.count("\n", found.start(), found.end())
            at = found.end()
        text = text[at:]
        if len(text) > LONGEST or (ended and "<Event" in text.replace("</Events>", "")):
            if re.search(r"<Event[\s>]", text):
                yield Entry(line, None, "is an event without its end", "export it again")
            text = ""


def event(text: str) -> dict[str, Any]:
    """The values of one event."""
    system = _SYSTEM.search(text)
    found: dict[str, Any] = {}
    if system is not None:
        found |= {name: _plain(value) for name, value in _ELEMENT.findall(system[1])}
    for name, value in of_xml(text).items():
        found.setdefault(name, value)
    for name, value, other in _ATTRIBUTE.findall(system[1] if system is not None else ""):
        found.setdefault(name, _plain(value or other))
    return found


def _plain(text: str) -> str:
    return html.unescape(text)
