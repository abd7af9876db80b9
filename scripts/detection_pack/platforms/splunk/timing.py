"""When Splunk runs a search, on what, and how what it finds becomes an alert.

A search runs each hour over the whole look-back, because audit records arrive late, and answers for the
arrivals of one hour (`index_times`): a plain one by its range of index times, a correlation by the condition
in it. All that a run finds is one alert, so that no number of results is too many: of alerts a result Splunk
raises 500 a run, in 300 seconds (limits.conf, max_per_result_alerts).

An accelerated data set keeps no index times. Its search raises an alert a result, and throttles what it has
shown for longer than that can be found again. Source: savedsearches.conf of the Admin Manual.
"""

from __future__ import annotations

import hashlib

from detection_pack.model.rule import Rule
from detection_pack.model.timespan import SECONDS, Timespan
from detection_pack.platforms.splunk.index_times import EARLIEST, LATEST
from detection_pack.platforms.splunk.query import ALERT_KEY, lookback

#: How long after it was due a search may run that Splunk catches up with, in seconds (limits.conf,
#: max_continuous_scheduled_search_lookback).
LATEST_START = 24 * 3600


def scheduled(rule: Rule, stanza: str, snap: str) -> dict[str, str]:
    """The settings that say when a search runs and on what. The minute comes from the name of the stanza, so
    that the searches do not start together. Continuous scheduling leaves no run out."""
    minute = int.from_bytes(hashlib.sha256(stanza.encode()).digest()[:4], "big") % 60
    return {
        "enableSched": "1",
        "cron_schedule": f"{minute} * * * *",
        "realtime_schedule": "0",
        **time_range(rule, snap),
        "schedule_window": "auto",
        "allow_skew": "5m",
    }


def time_range(rule: Rule, snap: str) -> dict[str, str]:
    """The settings that say what a search runs on."""
    return {"dispatch.earliest_time": f"-{lookback(rule)}@{snap}", "dispatch.latest_time": "now"}


def answered(rule: Rule, snap: str, data_set: bool) -> dict[str, str]:
    """The settings that make an alert of what is found, once."""
    if data_set:
        return _throttled(rule, snap)
    arrivals = {"dispatch.index_earliest": EARLIEST, "dispatch.index_latest": LATEST}
    return {
        **(arrivals if rule.correlation is None else {}),
        "alert.digest_mode": "1",
        "alert.suppress": "0",
    }


def _throttled(rule: Rule, snap: str) -> dict[str, str]:
    """An alert a result, each once: an event stays in sight for the look-back and what `snap` adds to it. The
    time counts from the alert, which no event comes after; a run may be late by as much as Splunk catches up
    with."""
    total = Timespan.parse(lookback(rule)).seconds + SECONDS[snap] + LATEST_START
    return {
        # Fields to throttle by belong to alerts a result (savedsearches.conf).
        "alert.digest_mode": "0",
        "alert.suppress": "1",
        "alert.suppress.fields": ALERT_KEY,
        "alert.suppress.period": Timespan(total).text("smh"),
    }
