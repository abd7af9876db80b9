"""The buttons in a Kibana guide, read as Kibana's Markdown plugin ``insight`` reads them, and checked.

Written from Kibana's source (security_solution, markdown_editor/plugins/insight: the tokenizer, the interface
Provider, replaceParamsQuery): a button takes all of its paragraph, ends where its braces are closed, and text
that is not JSON fails the whole guide.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema

PREFIX = "!{investigate"
_PROVIDER = {
    "type": "object",
    "required": ["field", "excluded", "queryType", "value", "valueType"],
    "additionalProperties": False,
    "properties": {
        "field": {"type": "string", "minLength": 1},
        "excluded": {"type": "boolean"},
        "queryType": {"enum": ["phrase", "phrases", "exists", "range"]},
        "value": {"type": ["string", "number", "boolean"]},
        "valueType": {"enum": ["string", "number", "boolean"]},
    },
}
_TIME = {"type": "string", "pattern": r"^now([+-]\d+[smhdwMy])?(/[smhdwMy])?$"}
_SCHEMA = {
    "type": "object",
    "required": ["label", "providers"],
    "additionalProperties": False,
    "properties": {
        "label": {"type": "string", "minLength": 1, "maxLength": 80},
        "description": {"type": "string"},
        "providers": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "array", "minItems": 1, "items": _PROVIDER},
        },
        "relativeFrom": _TIME,
        "relativeTo": _TIME,
    },
}


@dataclass(frozen=True)
class Button:
    label: str
    providers: list[list[Mapping[str, Any]]]
    stated: Mapping[str, Any]

    def asks(self, alert: Mapping[str, str]) -> list[list[tuple[str, str]]]:
        """Field and value of each provider, with the values of an alert in the places of their names."""
        return [
            [(one["field"], _replaced(str(one["value"]), alert)) for one in group] for group in self.providers
        ]


def _replaced(value: str, alert: Mapping[str, str]) -> str:
    for name in re.findall(r"\{{([^}]+)\}}", value):
        if name.strip() in alert:
            value = value.replace(f"{{{{{name}}}}}", alert[name.strip()], 1)
    return value


def buttons(note: str) -> list[Button]:
    """The buttons of a guide. Asserts that each is one, alone in its paragraph; what stands in a fenced block
    is none."""
    outside = re.sub(r"^(`{3,}).*?^\1$", "", note, flags=re.MULTILINE | re.DOTALL)
    found = []
    for paragraph in re.split(r"\n[ \t]*\n", outside):
        if PREFIX in paragraph:
            assert paragraph.startswith(f"{PREFIX}{{"), paragraph
            found.append(_button(paragraph.removeprefix(PREFIX)))
    return found


def _button(text: str) -> Button:
    opened, end = 0, 0
    while end < len(text) and opened >= 0:
        opened += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    assert opened == -1 and not text[end:].strip(), text
    stated = json.loads(text[: end - 1])
    jsonschema.validate(stated, _SCHEMA)
    return Button(stated["label"], stated["providers"], stated)


#: What the pack's own buttons are called, by the line of the guide that names their field.
OWN = {"Everything of this account": "Who", "Everything from this source": "From where"}


def is_own(button: Button, note: str) -> bool:
    """Whether a button asks for the alert's value of the one field that the guide names, and nothing else."""
    named = re.search(rf"^- {OWN.get(button.label, '-')}: `([^`\n]+)`: ", note, re.MULTILINE)
    if named is None:
        return False
    wanted = {"field": named[1], "excluded": False, "queryType": "phrase", "valueType": "string"}
    return button.stated == {
        "label": button.label,
        "providers": [[wanted | {"value": f"{{{{{named[1]}}}}}"}]],
        "relativeFrom": "now-2d",
        "relativeTo": "now+1d",
    }


def without_buttons(note: str) -> str:
    """The guide without the buttons that are the pack's own."""
    return "\n".join(
        line
        for line in note.split("\n")
        if not (line.startswith(PREFIX) and all(is_own(one, note) for one in buttons(line)))
    )
