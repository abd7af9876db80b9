r"""The value of a name in a JSON list of names and values, in KQL.

Kusto has no function for it (``mv-apply`` makes rows of the list, and would have to be undone), so it is
taken out of the text: a key and its value stand there with plain quotes, those inside a JSON string have a
backslash before them, so that no value can imitate one. The value comes back as text, its JSON escapes
resolved. It stands right behind the name, as the Management Activity API and CloudAppEvents (sorted keys)
write it. Of several values of a name it is the first. Sources of the semantics: Kusto, "extract()" and
"parse_json()"; RFC 8259; RE2 syntax.
"""

from __future__ import annotations

import re

from detection_pack.languages.kql.kql_literals import kql_verbatim

_VALUE = r'"(?:[^"\\]|\\.)*"|[^"\s,{}\[\]]+'
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_. -]{0,127}")


def is_name(name: str) -> bool:
    """Whether a name can be looked for: JSON writes such names as they are."""
    return _NAME.fullmatch(name) is not None


def column_name(name: str) -> str:
    """A name as part of the name of a column."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def named_value(listed: str, name: str, name_key: str = "Name", value_key: str = "Value") -> str:
    """An expression for the value of ``name`` in ``listed``, an expression for the list's JSON as text; the
    empty text where the list has none."""
    assert is_name(name)
    literal = re.sub(r"([.-])", r"\\\1", name)
    pattern = rf'"{name_key}"\s*:\s*"{literal}"\s*,\s*"{value_key}"\s*:\s*({_VALUE})'
    return f"tostring(parse_json(extract({kql_verbatim(pattern)}, 1, {listed})))"
