"""Splunk's .conf files, written so that no value can start a stanza or a key, and read back.

A line that ends in a backslash goes on in the next one, and the line break stays in the value: that is how
Splunk's own reader in splunk-appinspect joins lines (configuration_parser.py, join_lines), which a test reads
the same files with. It takes blanks after the backslash for a continuation too, and strips a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

Stanzas = dict[str, dict[str, str]]

_KEY = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)
_NOT_IN_STANZA = re.compile(r"[\[\]\x00-\x1f\x7f]")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def conf_text(stanzas: Mapping[str, Mapping[str, str]]) -> str:
    """The file of these stanzas, in their order. Raises ValueError for what no such file can hold."""
    return "\n".join(
        f"[{_stanza_name(name)}]\n" + "".join(_setting(k, v) for k, v in settings.items())
        for name, settings in stanzas.items()
    )


def joined(texts: Sequence[str]) -> str:
    """Texts of stanzas as one file."""
    return "\n".join(texts)


def one_line(text: object) -> str:
    """Free text as a value of one line: runs of blanks and control characters become one blank."""
    cleaned = re.sub(r"[\s\x00-\x1f\x7f\x85\u2028\u2029]+", " ", str(text)).strip()
    # A last backslash would join the next line to this one.
    return cleaned + "." if cleaned.endswith("\\") else cleaned


def _stanza_name(name: str) -> str:
    # [default] holds the settings of all stanzas.
    if not name or name != name.strip() or _NOT_IN_STANZA.search(name) or name.lower() == "default":
        raise ValueError(f"{name!r} cannot name a stanza")
    return name


def _setting(key: str, value: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} cannot be a key")
    lines = value.split("\n")
    if _UNPRINTABLE.search(value) or value != value.strip() or any(re.search(r"\\\s*$", x) for x in lines):
        raise ValueError(f"the value of {key} cannot be written so that it is read as it stands")
    return f"{key} = " + "\\\n".join(lines) + "\n"


def read_conf(text: str) -> Stanzas:
    """The settings of a file by stanza; those before the first stanza are in "default"."""
    stanzas: Stanzas = {}
    current = "default"
    for line in _joined(text.split("\n")):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        if stripped[0] == "[":
            current = stripped[1 : stripped.rindex("]")]
            stanzas.setdefault(current, {})
        elif "=" in stripped:
            key, _, value = stripped.partition("=")
            stanzas.setdefault(current, {})[key.strip()] = value.strip()
    return stanzas


def _joined(lines: Iterable[str]) -> Iterable[str]:
    held = ""
    for line in lines:
        if re.search(r"\\\s*$", line):
            held += line[:-1] + "\n"
        else:
            yield held + line
            held = ""
