"""The index times that one run of a scheduled search answers for.

Each run answers for the hour of arrivals that ended `SETTLE` before it was due; the next run goes on where
that hour ends. A search that starts late still covers the time that it was due for (Reporting Manual,
"Prioritize concurrently scheduled reports"), and continuous scheduling leaves no run out (savedsearches.conf,
realtime_schedule). So each arrival belongs to one run, however late it comes and whenever that run starts.
"""

from __future__ import annotations

#: How often a search runs, and how long an event has to become searchable once it is indexed, in seconds.
FREQUENCY, SETTLE = 3600, 300
#: How long after it was indexed an event may have to wait for its run.
LONGEST_WAIT = FREQUENCY + SETTLE

#: The arrivals of one run as time modifiers, from the minute on and up to it.
EARLIEST, LATEST = f"-{LONGEST_WAIT // 60}m@m", f"-{SETTLE // 60}m@m"
#: The same for expressions. ``info_max_time`` is the time that the run was due ("addinfo"); what ``now()`` is
#: in a run that starts late is not documented.
DUE = "info_max_time"
ARRIVED = f'_indextime<relative_time({DUE},"{LATEST}")'
ARRIVED_BEFORE = f'_indextime<relative_time({DUE},"{EARLIEST}")'
