"""Outside judges: programs that others wrote and that know a query language better than this pack does."""

import os

import pytest


def require(reason: str | None) -> None:
    """Go on where there is no reason not to; else skip with the reason, or fail with it where CI=true."""
    if reason is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
