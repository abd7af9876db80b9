"""What is mutated: the pack's own rules, pipelines and events, and logs made of those events.

Long lists are cut in a part of the cases: what they repeat costs time and shows nothing new.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from random import Random
from typing import Any

import yaml

from detection_pack.model.case import load_cases
from detection_pack.model.event import Event
from detection_pack.model.log_source_reader import load_log_sources
from support.fuzzing.mutation import as_json

ROOT = Path(__file__).resolve().parents[3]
RICH = Path(__file__).with_name("seeds")


@dataclass(frozen=True)
class Seed:
    """A YAML file: as it stands, as bytes and as trees."""

    path: Path
    folder: Path | None = None

    @property
    def name(self) -> str:
        """Where the file stands in ``folder``, or its own name."""
        return self.path.relative_to(self.folder).as_posix() if self.folder else self.path.name

    @cached_property
    def data(self) -> bytes:
        return self.path.read_bytes()

    @cached_property
    def trees(self) -> list[Any]:
        return list(yaml.load_all(self.data, yaml.CSafeLoader))


#: The log sources of the core rules: there is one of every kind among them.
SOURCES = ("m365", "process_creation")


@cache
def rules() -> tuple[Seed, ...]:
    found = [*sorted((ROOT / "sigma" / "core").glob("*.yml")), *sorted(RICH.glob("*.yml"))]
    return tuple(map(Seed, found))


@cache
def pipelines() -> tuple[Seed, ...]:
    """Every file of these log sources that a build reads."""
    folder = ROOT / "pipelines"
    return tuple(Seed(path, folder) for name in SOURCES for path in sorted((folder / name).glob("*.yml")))


@cache
def events_files() -> tuple[Seed, ...]:
    named = sorted(path.name for path in (ROOT / "sigma" / "core").glob("*.yml"))
    return tuple(Seed(ROOT / "tests" / "events" / name) for name in named)


def shortened(tree: Any, longest: int) -> Any:
    """A copy with at most ``longest`` entries in every list."""
    if isinstance(tree, dict):
        return {key: shortened(value, longest) for key, value in tree.items()}
    if isinstance(tree, list):
        return [shortened(value, longest) for value in tree[:longest]]
    return tree


def pruned_pipeline(tree: Any, names: set[str]) -> Any:
    """A pipeline without the mapped names that no rule of ours uses: the same structure in fewer lines."""
    out = dict(tree)
    if "transformations" not in out:
        return out
    out["transformations"] = [
        {
            **item,
            "mapping": {k: v for k, v in item["mapping"].items() if k in names}
            or dict([*item["mapping"].items()][:2]),
        }
        if isinstance(item.get("mapping"), dict) and "enumeration" not in item["mapping"]
        else item
        for item in tree["transformations"]
    ]
    return out


# ---- logs ----------------------------------------------------------------------------------------------


@cache
def events() -> dict[str, tuple[Event, ...]]:
    """The pack's test events by kind."""
    found: dict[str, list[Event]] = {"m365": [], "process": []}
    sources = load_log_sources(ROOT)
    for seed in events_files():
        kind = "process" if "CommandLine" in seed.data.decode() else "m365"
        for case in load_cases(seed.path, sources["process_creation" if kind == "process" else kind]):
            found[kind] += case.events
    return {kind: tuple(listed) for kind, listed in found.items()}


@dataclass(frozen=True)
class Log:
    """Records in one of the formats that `replay LOG` takes; ``ending`` is its file's."""

    form: str
    ending: str
    records: list[Any]

    def data(self, rng: Random) -> bytes:
        """The file. Records that are not mappings any more are written where the format can hold them."""
        if self.form in ("purview", "hunting csv"):
            return _as_csv(rng, self.form, self.records).encode("utf-8", "surrogatepass")
        if self.ending == ".json":
            whole: Any = self.records
            if self.form == "hunting json" or rng.random() < 0.3:
                whole = {rng.choice(["Results", "results", "value"]): self.records}
            return as_json(rng, whole).encode("utf-8", "surrogatepass")
        return ("\n".join(as_json(rng, r) for r in self.records) + "\n").encode("utf-8", "surrogatepass")


def _as_csv(rng: Random, form: str, records: list[Any]) -> str:
    buffer = io.StringIO()
    mappings = [r for r in records if isinstance(r, dict)] or [{"a": "b"}]
    if form == "purview":
        mappings = [
            {
                "RecordId": r.get("Id", ""),
                "CreationDate": r.get("CreationTime", ""),
                "AuditData": as_json(rng, r),
            }
            for r in mappings
        ]
    names = list(dict.fromkeys(str(name) for r in mappings for name in r))
    writer = csv.DictWriter(buffer, names, extrasaction="ignore", delimiter=rng.choice([",", ",", ",", ";"]))
    writer.writeheader()
    writer.writerows(
        {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in r.items()} for r in mappings
    )
    return buffer.getvalue()


def log(rng: Random, mark: str) -> Log:
    """A small log of real records. ``mark`` keeps its Ids apart from those of other logs of one replay."""
    form, ending, shape = rng.choice(_FORMS)
    kind = "m365" if shape is None else "process"
    chosen = rng.sample(events()[kind], rng.randint(1, 4))
    records = [{**e.record, "Id": f"{mark}-{n}"} for n, e in enumerate(chosen)]
    return Log(form, ending, [shape(r) for r in records] if shape else records)


def _sysmon(record: dict[str, Any]) -> dict[str, Any]:
    return {"EventID": 1, **record}


def _security(record: dict[str, Any]) -> dict[str, Any]:
    domain, _, user = str(record.get("User", "")).rpartition("\\")
    return {
        "EventID": 4688,
        "TimeCreated": str(record.get("UtcTime")).replace(" ", "T") + "Z",
        "NewProcessName": record.get("Image"),
        "CommandLine": record.get("CommandLine"),
        "ParentProcessName": record.get("ParentImage"),
        "SubjectUserName": user,
        "SubjectDomainName": domain,
        "Hostname": record.get("Computer"),
        "Id": record["Id"],
    }


def _winlogbeat(record: dict[str, Any]) -> dict[str, Any]:
    data = {k: v for k, v in record.items() if k not in ("Computer", "Id", "EventID")}
    return {
        "@timestamp": str(record.get("UtcTime")).replace(" ", "T") + "Z",
        "winlog": {"event_id": 1, "computer_name": record.get("Computer"), "event_data": data},
        "Id": record["Id"],
    }


def _hunting(record: dict[str, Any]) -> dict[str, Any]:
    image, parent = str(record.get("Image", "")), str(record.get("ParentImage", ""))
    return {
        "Timestamp": str(record.get("UtcTime")).replace(" ", "T") + "Z",
        "DeviceName": record.get("Computer", ""),
        "DeviceId": "d",
        "ReportId": record["Id"],
        "FileName": image.rpartition("\\")[2],
        "FolderPath": image,
        "ProcessCommandLine": record.get("CommandLine", ""),
        "AccountName": str(record.get("User", "")).rpartition("\\")[2],
        "InitiatingProcessFolderPath": parent,
        "InitiatingProcessFileName": parent.rpartition("\\")[2],
    }


_FORMS: tuple[tuple[str, str, Any], ...] = (
    ("activity", ".jsonl", None),
    ("activity", ".json", None),
    ("purview", ".csv", None),
    ("hunting csv", ".csv", _hunting),
    ("hunting json", ".json", _hunting),
    ("sysmon", ".jsonl", _sysmon),
    ("security", ".jsonl", _security),
    ("winlogbeat", ".jsonl", _winlogbeat),
)
