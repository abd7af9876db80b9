"""When Splunk runs a search, how far back, and for how long it does not raise an alert again.

A search runs each hour over the whole look-back, because audit records arrive late, and throttles what it has
already shown: the same event, or the same group in the same window. Source: savedsearches.conf of the Admin
Manual.
"""

from __future__ import annotations

import hashlib

from detection_pack.model.rule import Rule
from detection_pack.model.timespan import SECONDS, Timespan
from detection_pack.platforms.splunk.query import ALERT_KEY

#: How much later than planned a search may run, in seconds.
LATEST_START = 3600


def scheduled(rule: Rule, stanza: str, snap: str) -> dict[str, str]:
    """The settings that say when a search runs and on what. The minute comes from the name of the stanza, so
    that the searches do not start together."""
    minute = int.from_bytes(hashlib.sha256(stanza.encode()).digest()[:4], "big") % 60
    return {
        "enableSched": "1",
        "cron_schedule": f"{minute} * * * *",
        "dispatch.earliest_time": f"-{rule.lookback}@{snap}",
        "dispatch.latest_time": "now",
        "schedule_window": "auto",
        "allow_skew": "5m",
    }


def throttled(rule: Rule, snap: str) -> dict[str, str]:
    """The settings that keep an alert from being raised again.

    An event stays in sight for the look-back and what `snap` adds to it, the events of a window for the
    window's length more. The time counts from the alert, which no event comes after; a run may be late.
    """
    window = 0 if rule.correlation is None else rule.correlation.window
    total = Timespan.parse(rule.lookback).seconds + SECONDS[snap] + window + LATEST_START
    return {
        # One alert a result: fields to throttle by belong to alerts a result (savedsearches.conf).
        "alert.digest_mode": "0",
        "alert.suppress": "1",
        "alert.suppress.fields": ALERT_KEY,
        "alert.suppress.period": Timespan(total).text("smh"),
    }
