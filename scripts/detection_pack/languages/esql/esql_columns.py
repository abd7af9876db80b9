"""What ES|QL reads of a document, and how it writes lower case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detection_pack.languages.lucene.lucene_regex import utf16_length

#: ``ignore_above`` of a keyword field as the integrations' templates have it, in UTF-16 code units.
IGNORE_ABOVE = 1024

_CASED, _BETWEEN = r"\p{Lu}\p{Ll}\p{Lt}", r"\p{Mn}\p{Me}\p{Cf}\p{Lm}\p{Sk}''.:·’"
#: A mark for a sigma that may be final: no character, so it is in no text.
_MARK = "\ufdd0"
#: TO_LOWER is Java's ``String.toLowerCase(Locale.ROOT)``. DuckDB's ``lower`` maps one character to one: it
#: has no final sigma, and no i with a dot above. A run of sigmas needs each replacement twice, as matches do
#: not overlap.
LOWER_MACRO = f"""
CREATE OR REPLACE TEMP MACRO sigma_marked(t) AS
    regexp_replace(t, '([{_CASED}{_MARK}][{_BETWEEN}]*)Σ', '\\1{_MARK}', 'g');
CREATE OR REPLACE TEMP MACRO sigma_inside(t) AS
    regexp_replace(t, '{_MARK}([{_BETWEEN}]*[{_CASED}{_MARK}])', 'Σ\\1', 'g');
CREATE OR REPLACE TEMP MACRO sigma_final(t) AS sigma_inside(sigma_inside(sigma_marked(sigma_marked(t))));
CREATE OR REPLACE TEMP MACRO java_lower(t) AS CASE
    WHEN t IS NULL THEN NULL
    WHEN contains(t, 'Σ')
    THEN replace(lower(replace(sigma_final(t), 'İ', 'i\u0307')), '{_MARK}', 'ς')
    ELSE lower(replace(t, 'İ', 'i\u0307')) END;
"""


def as_columns(document: Mapping[str, Any], unlimited: Sequence[str]) -> dict[str, Any]:
    """What ES|QL reads of a document: a keyword's values as the index has them, each once, none that is too
    long (``ignore_above``) but in the fields ``unlimited``, and one value where a list holds no more."""
    columns: dict[str, Any] = {}
    for field, value in document.items():
        kept = value if isinstance(value, list) else [value]
        if field not in unlimited:
            kept = [v for v in kept if not isinstance(v, str) or utf16_length(v) <= IGNORE_ABOVE]
        kept = list(dict.fromkeys(v for v in kept if v is not None))
        if kept:
            columns[field] = kept if len(kept) > 1 else kept[0]
    return columns
