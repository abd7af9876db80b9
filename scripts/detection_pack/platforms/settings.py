"""What the imports of all platforms share when their settings are read back out of dist/."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml

from detection_pack.model.findings import PackError
from detection_pack.platforms.platform import Setting

_UNREADABLE = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    tarfile.TarError,
    yaml.YAMLError,
)


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Raises `PackError` for a file of dist/ that turns out to be none of ours."""
    try:
        yield
    except _UNREADABLE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        what = f"holds an import that cannot be read: {path} ({reason})"
        raise PackError.at("dist", 1, what, "run detection-pack build") from error


def chosen(
    platform: str, of: str, found: Mapping[str, Any], keys: Iterable[str], where: str
) -> list[Setting]:
    """Those of the keys that ``found`` has, in the order of ``keys``."""
    return [Setting(platform, of, key, _shown(found[key]), where) for key in keys if key in found]


def decoded(content: bytes) -> str:
    return content.decode("utf-8")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
