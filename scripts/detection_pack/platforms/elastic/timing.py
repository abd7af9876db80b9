"""When Kibana runs a rule and how far back each run looks, so that no record that arrives late is lost.

Office 365 audit records arrive 30 minutes to a day after their event (Microsoft, "Search the audit log"), so
no run sees an hour whole. What each type of rule does about it:

* ``query`` asks for what was *ingested* since ``from`` (``timestamp_override``: event.ingested, which Fleet
  sets; @timestamp where it is missing) and looks back over the whole look-back on top: runs overlap, and
  Kibana gives one alert a document, by its index, id and version.
* ``esql`` counts windows by event time. A run looks back over the look-back, one window and one
  interval: a record up to a look-back late is counted with its whole window. Where windows overlap it is two
  steps more, and a window alerts if the run sees the one before it whole: only the first alerts.
  An aggregated row has no document, so each run alerts again; suppression by group and window, for as
  long as any record of a window is in reach, makes it one alert (Platinum licence): of windows of the clock
  that is the look-back and the window itself, which ends that much later than it starts.
* ``threshold`` counts whatever lies between ``from`` and now, so a longer look-back would be a longer window.
  It goes by arrival: one window, one interval, and how far apart records of one window may arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from detection_pack.model.rule import Rule
from detection_pack.model.timespan import Timespan
from detection_pack.platforms.elastic.threshold import INTERVAL

INGESTED = "event.ingested"


@dataclass(frozen=True)
class Schedule:
    """``back`` is the rule's ``from``; ``by_arrival`` whether it goes by event.ingested; ``reach``, where
    windows overlap, how long ago one may have started that alerts; ``seen``: how long runs see a window from
    its start on, of rules that go by windows."""

    interval: timedelta
    back: timedelta
    by_arrival: bool
    reach: timedelta | None = None
    seen: timedelta = timedelta()

    def fields(self) -> dict[str, str]:
        """The rule's own schedule fields, as Kibana's Detections API names them."""
        stated = {"interval": text(self.interval), "from": f"now-{text(self.back)}", "to": "now"}
        return stated | ({"timestamp_override": INGESTED} if self.by_arrival else {})


def schedule(kind: str, rule: Rule, state: Mapping[str, Any]) -> Schedule:
    """The schedule of a rule of this type; ``state`` is the pipeline's, with its ``schedule`` if any."""
    stated: Mapping[str, str] = state.get("schedule") or {}
    interval = span(stated.get("interval", f"{INTERVAL}s"))
    lookback = span(rule.lookback)
    if kind == "query":
        return Schedule(interval, lookback + interval, by_arrival=True)
    window, step = timedelta(seconds=rule.correlation.window if rule.correlation else 0), timedelta()
    if rule.correlation is not None and (windows := rule.correlation.overlapping) is not None:
        window, step = timedelta(seconds=windows.width), timedelta(seconds=windows.step)
    if kind == "esql" and step:
        reach = lookback + window + interval
        return Schedule(interval, reach + step, by_arrival=False, reach=reach, seen=reach + step)
    if kind == "esql":
        back = lookback + window + interval
        return Schedule(interval, back, by_arrival=False, seen=back + window)
    spread = span(stated["arrival_spread"]) if "arrival_spread" in stated else timedelta()
    return Schedule(interval, window + interval + spread, by_arrival=True)


def span(text: str) -> timedelta:
    """``15m`` as a time span. Raises ValueError."""
    return timedelta(seconds=Timespan.parse(text).seconds)


def text(value: timedelta) -> str:
    """The span in the largest of Kibana's units (s, m, h) that says it exactly."""
    return Timespan(int(value.total_seconds())).text("smh")
