"""Progress on standard error while a log is read and judged; none where it is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from detection_pack.model.findings import printable

#: Characters of a name that are shown.
_WIDEST = 60


@contextmanager
def progress(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A function that is told what is being done, how much is done, and of how much (0 where that is not
    known). It shows nothing with ``quiet`` and where standard error is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda _what, _done, _of: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("reading", total=None)

        def told(what: str, done: int, of: int) -> None:
            text = escape(printable(what)[-_WIDEST:])
            shown.update(task, description=text or "done", completed=done, total=of or None)

        yield told
