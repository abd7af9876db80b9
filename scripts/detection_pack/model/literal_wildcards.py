"""Values in which a backslash takes a wildcard's meaning away, which their authors seldom mean.

In Sigma ``\\*`` is an asterisk, so ``*\\AppData\\*`` ends in one: whoever writes a folder means ``\\\\*``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from detection_pack.model.detections import leaves
from detection_pack.model.findings import Finding
from detection_pack.model.reading import Reading

ESCAPED_WILDCARD = "escaped-wildcard"
#: A wildcard after an odd number of backslashes.
_ESCAPED = re.compile(r"(?<!\\)(?:\\\\)*\\([*?])")


def literal_wildcards(reading: Reading) -> Iterator[Finding]:
    """A warning for every such value of the reading's rule."""
    for document in reading.documents:
        for leaf in leaves(document):
            for keys, value in leaf.values if "re" not in leaf.modifiers else ():
                if isinstance(value, str) and (found := _ESCAPED.search(value)):
                    what = f'"{value}" holds the character {found[1]} and no wildcard there'
                    todo = f"write \\\\{found[1]} for a backslash and a wildcard; else leave it as it is"
                    yield reading.at(ESCAPED_WILDCARD, document, keys, what, todo, "warning")
