"""The parameters of a Kibana threshold rule for a correlation, where a threshold rule can stand for it.

Source: Kibana's Detections API, "Create a detection rule", type ``threshold``: ``threshold.field`` groups
(at most five), ``threshold.value`` is the least number of events of a group, ``threshold.cardinality`` the
least number of distinct values of one field. It counts over everything between ``from`` and now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detection_pack.model.rule import Correlation

MAX_FIELDS = 5
#: One run every five minutes, Kibana's default.
INTERVAL = 300


def parameters(
    correlation: Correlation, fields: Mapping[str, str], state: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Index, schedule and threshold; None for a correlation that a threshold rule cannot cover.

    ``from`` is the window (one that overlaps is a step longer) and one interval: every window then lies
    whole within one run. What counts less than a number (``lt``, ``eq`` …) cannot be covered: the look-back
    counts more than the window.
    """
    if correlation.operator not in ("gte", "gt") or not isinstance(correlation.threshold, int):
        return None
    least = correlation.threshold + (correlation.operator == "gt")
    groups = [fields[name] for name in correlation.group_by if name in fields]
    if least < 1 or len(groups) != len(correlation.group_by) or len(groups) > MAX_FIELDS:
        return None
    threshold: dict[str, Any] = {"field": groups, "value": 1, "cardinality": []}
    if correlation.type == "event_count":
        threshold["value"] = least
    elif correlation.type == "value_count" and correlation.value_field in fields:
        # What a field holds may be spelt in several ways; the pipeline names the field that has one spelling.
        spelt: Mapping[str, str] = state.get("counted_fields") or {}
        counted = fields[str(correlation.value_field)]
        counted = spelt.get(counted, counted)
        threshold["cardinality"] = [{"field": counted, "value": least}]
    else:
        return None
    index = state.get("index") or ["*"]
    windows = correlation.overlapping
    length = correlation.window if windows is None else windows.width
    kind = "clock windows" if windows is None else "windows of a fixed grid"
    return {
        "index": list(index) if isinstance(index, list) else [index],
        "from": f"now-{length + INTERVAL}s",
        "to": "now",
        "interval": f"{INTERVAL // 60}m",
        "threshold": threshold,
        "note": (
            f"Counts over the look-back, not over {kind}, and leaves out comparisons between fields "
            "(an account's own mailbox counts too): it may alert on less than the rule says. Kibana leaves "
            "out events without a value in a grouping field and groups by exact letter case; the ES|QL rule "
            "beside this one is exact."
        ),
    }
