"""The trap: the values of a record flattened otherwise than Splunk does, or at a price that one record sets.

A record comes from whoever wrote the log. Flattening that copies the record for each value in it takes
gigabytes for 5,000 parameters; and a name that is put together wrongly is a field that no search finds.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT
from detection_pack.model.event import Event
from detection_pack.model.log_source_reader import load_log_sources
from detection_pack.platforms.splunk.run import Workspace

AUDIT = load_log_sources(ROOT)["m365"]
TIME = "2026-11-01T10:00:00"
LIMIT_MB, LIMIT_SECONDS = 900, 60

KEYS = st.text(st.sampled_from("abN.{}[]0'\"\\$ é*"), min_size=1, max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab "\\.é', max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Splunk's names of a value's parts, with their texts (KV_MODE=json)."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield from leaves(f"{name}.{key}" if name else key, value[key])
    elif isinstance(value, list):
        for member in value:
            yield from leaves(name + "{}", member)
    elif value is not None:
        yield name, str(value).lower() if isinstance(value, bool) else str(value)


def shown(record: dict[str, Any]) -> dict[str, list[str]]:
    workspace = Workspace([Event("one", AUDIT, record)])
    fields = workspace.events.all_fields()["one"]
    return {name: value if isinstance(value, list) else [value] for name, value in fields.items()}


@pytest.mark.parametrize("examples", [20, pytest.param(100, marks=pytest.mark.campaign)])
def test_every_value_has_its_name_and_its_place(examples: int) -> None:
    @settings(deadline=None, max_examples=examples)
    @given(st.dictionaries(KEYS, VALUES, max_size=4))
    def named(members: dict[str, Any]) -> None:
        record = {"CreationTime": TIME, **members}
        expected: dict[str, list[str]] = defaultdict(list)
        for name, text in leaves("", record):
            expected[name].append(text)
        assert shown(record) == expected

    named()


def test_a_parameter_is_lifted_once_and_replaces_no_field_of_the_record() -> None:
    listed = [
        {"Name": "Mailbox", "Value": "first"},
        {"Name": "Mailbox", "Value": "second"},
        {"Name": "Operation", "Value": "hidden"},
        "no parameter",
        None,
        {"Name": "Empty"},
    ]
    fields = shown({"CreationTime": TIME, "Operation": "New-MailboxSearch", "Parameters": listed})
    assert fields["Mailbox"] == ["first"] and fields["Operation"] == ["New-MailboxSearch"]
    assert "Empty" not in fields and fields["Parameters{}"] == ["no parameter"]


MANY = """
import sys
sys.path.insert(0, {scripts!r})
from pathlib import Path
from detection_pack.model.event import Event
from detection_pack.model.log_source_reader import load_log_sources
from detection_pack.platforms.splunk.run import Workspace
listed = [{{"Name": f"N{{i}}", "Value": "v"}} for i in range(20_000)]
record = {{"CreationTime": {time!r}, "Parameters": listed}}
workspace = Workspace([Event("one", load_log_sources(Path({root!r}))["m365"], record)])
asked = ["N0", "N19999", "N20000", "Parameters{{}}.Name", "Parameters{{}}.Value"]
found = workspace.events.values(asked)["one"]
assert found["N0"] == found["N19999"] == "v" and "N20000" not in found
print(len(found["Parameters{{}}.Name"]) + len(found["Parameters{{}}.Value"]))
"""


def test_one_record_of_many_parameters_takes_little() -> None:
    code = MANY.format(scripts=str(ROOT / "scripts"), root=str(ROOT), time=TIME)
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code + PEAK], capture_output=True, text=True, check=True)
    count, peak = map(int, done.stdout.split())
    assert count == 2 * 20_000
    assert peak < LIMIT_MB and time.monotonic() - start < LIMIT_SECONDS


#: Not `ru_maxrss`: a process that was forked is charged with what its parent held.
PEAK = """
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM")))
"""
