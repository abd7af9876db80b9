"""A value that a platform or a language cannot express."""

from __future__ import annotations

from sigma.exceptions import SigmaError


class RefusedValue(SigmaError):
    """A platform cannot express a value. ``subject`` is the field or value, to find its line."""

    def __init__(self, what: str, subject: str) -> None:
        super().__init__(what)
        self.subject = subject
