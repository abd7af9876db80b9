"""Reading what a build has written: one way for every engine, with one line for whatever cannot be read."""

from __future__ import annotations

from pathlib import Path

from detection_pack.model.findings import PackError

TODO = "run detection-pack build"


def built_text(path: Path) -> str:
    """The text of a file of dist/. Raises `PackError` where it is missing, cannot be read or is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise PackError.at(path, 1, "is missing", TODO) from error
    except OSError as error:
        raise PackError.at(path, 1, f"cannot be read ({error.strerror})", TODO) from error
    except UnicodeDecodeError as error:
        raise PackError.at(path, 1, "is not UTF-8", TODO) from error
