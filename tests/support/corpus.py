"""Sigma rules in the style of SigmaHQ's, made from a seed: what a user's own folder of rules looks like.

`write` writes them. The same count and seed give the same bytes,
and rule number n of a seed is the same whatever the count. The words are made here; the shapes of the
detections, and how often each occurs, follow SigmaHQ's rules for process creation and Microsoft 365, which
`SHAPES` and `RATES` state as shares of the rules.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from support import corpus_words as words

#: A detection value as YAML has it: scalars, lists, mappings.
Value = str | int | None | bool | Sequence["Value"] | dict[str, "Value"]
Detection = dict[str, Value]

#: The share of rules for Microsoft 365; the others are for process creation.
M365_SHARE = 0.05

#: How often a rule of process creation has each feature beside its shape.
RATES = {
    "filter_main": 0.17,
    "filter_optional": 0.07,
    "filter_plain": 0.05,
    "regular_expression": 0.05,
    "windash": 0.07,
    "base64offset": 0.012,
    "wildcard_inside": 0.04,
    "starts_with": 0.05,
    "user": 0.025,
    "integrity_level": 0.03,
    "current_directory": 0.015,
    "parent_command_line": 0.05,
    "logon_id": 0.003,
    "parent_user": 0.003,
    "null_or_empty": 0.03,
    "non_ascii": 0.01,
    "quotes": 0.05,
    "question_mark": 0.01,
    "escaped_wildcard": 0.008,
    "number_or_pid": 0.004,
    "exists": 0.003,
    "field_reference": 0.004,
    "cased": 0.003,
    "keywords": 0.002,
    "cidr": 0.002,
    "other_field": 0.006,
}


@dataclass(frozen=True)
class CorpusRule:
    """One rule: where it stands below the folder of rules, and its text."""

    path: str
    text: str


def rules(count: int, seed: int) -> Iterator[CorpusRule]:
    """``count`` rules, one after the other."""
    for number in range(count):
        rng = random.Random(f"{seed}:{number}")
        make = _m365 if rng.random() < M365_SHARE else _process
        yield make(rng, number)


def write(folder: Path, count: int, seed: int) -> list[Path]:
    """Write the rules below ``folder`` and say where."""
    written = []
    for rule in rules(count, seed):
        path = folder / rule.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rule.text, encoding="utf-8")
        written.append(path)
    return written


# ---- process creation ------------------------------------------------------------------------------------


def _process(rng: random.Random, number: int) -> CorpusRule:
    program = rng.choice(words.PROGRAMS)
    shapes, weights = zip(*SHAPES, strict=True)
    detection, condition = rng.choices(shapes, weights)[0](rng, program)
    condition = _with_features(rng, detection, condition)
    detection["condition"] = condition
    verb = rng.choice(words.VERBS)
    stem = f"proc_creation_win_{program.stem}_{verb.lower()}_{number:04}"
    title = f"{rng.choice(words.ADJECTIVES)} {verb} Via {program.name} {number}"
    logsource: Detection = {"category": "process_creation", "product": "windows"}
    return CorpusRule(
        f"windows/process_creation/{stem}.yml",
        _text(rng, title, f"the {verb.lower()} of {program.name}", logsource, detection),
    )


def _image(program: words.Program) -> Value:
    return [{"Image|endswith": f"\\{program.name}"}, {"OriginalFileName": program.original}]


def _images(rng: random.Random, most: int = 12) -> Value:
    chosen = rng.sample(words.PROGRAMS, rng.randint(2, most))
    return [f"\\{program.name}" for program in chosen]


def _arguments(rng: random.Random) -> Value:
    """A value or a list of them, for `CommandLine|contains`."""
    count = rng.choices((1, 2, 3, 5, 8, 14, 30), (28, 22, 16, 16, 10, 6, 2))[0]
    values = [_argument(rng) for _ in range(count)]
    return values[0] if count == 1 else list(dict.fromkeys(values))


def _argument(rng: random.Random) -> str:
    pools = (words.FLAGS, words.PATHS, words.NAMES, words.CMDLETS, words.URLS, words.EXTENSIONS)
    text = rng.choice(rng.choices(pools, (34, 22, 16, 14, 7, 7))[0])
    if rng.random() < 0.5 and text[0] in "-/":
        text = f" {text}"
    return text + rng.choice(("", "", " ", f"{rng.randint(2, 99)}"))


def _arguments_all(rng: random.Random) -> list[Value]:
    values = [_argument(rng) for _ in range(rng.choices((2, 3, 4, 6), (50, 30, 15, 5))[0])]
    return list(dict.fromkeys(values))


def _program_and_arguments(rng: random.Random, program: words.Program) -> tuple[Detection, str]:
    detection: Detection = {"selection_img": _image(program)}
    detection["selection_cli"] = (
        {"CommandLine|contains|all": _arguments_all(rng)}
        if rng.random() < 0.3
        else {"CommandLine|contains": _arguments(rng)}
    )
    if rng.random() < 0.25:
        detection["selection_path"] = {"CommandLine|contains": _arguments(rng)}
    return detection, "all of selection_*"


def _one_selection(rng: random.Random, program: words.Program) -> tuple[Detection, str]:
    images = _images(rng, 6) if rng.random() < 0.3 else f"\\{program.name}"
    selection: Detection = {"Image|endswith": images}
    operator = "contains|all" if rng.random() < 0.3 else "contains"
    selection[f"CommandLine|{operator}"] = (
        _arguments_all(rng) if operator.endswith("all") else _arguments(rng)
    )
    if rng.random() < 0.12:
        selection["ParentImage|endswith"] = _images(rng, 4)
    return {"selection": selection}, "selection"


def _parent_and_child(rng: random.Random, program: words.Program) -> tuple[Detection, str]:
    selection: Detection = {"ParentImage|endswith": _images(rng, 8)}
    if rng.random() < 0.35:
        selection["Image|endswith"] = _images(rng, 24)
        return {"selection": selection}, "selection"
    detection: Detection = {"selection_parent": selection, "selection_child": _image(program)}
    if rng.random() < 0.4:
        detection["selection_cli"] = {"CommandLine|contains": _arguments(rng)}
    return detection, "all of selection_*"


def _tool(rng: random.Random, program: words.Program) -> tuple[Detection, str]:
    """A known tool by any of its marks: name, description, hashes, arguments."""
    marks: list[Value] = [{"Image|endswith": f"\\{program.name}"}]
    name = program.stem.title()
    if rng.random() < 0.5:
        marks.append({"OriginalFileName": program.original})
    if rng.random() < 0.45:
        marks.append({"Description": rng.choice((name, f"{name} Utility", f"{name} – Client"))})
    if rng.random() < 0.3:
        marks.append({"Product": name})
    if rng.random() < 0.15:
        marks.append({"Company": f"{name} Labs GmbH"})
    if rng.random() < 0.6:
        marks.append({"CommandLine|contains": _arguments(rng)})
    if rng.random() < 0.35:
        return {"selection_img": marks, "selection_hashes": {"Hashes|contains": _hashes(rng)}}, (
            "1 of selection_*"
        )
    return {"selection": marks}, "selection"


def _hashes(rng: random.Random) -> Value:
    kinds = rng.choices((("IMPHASH",), ("MD5", "SHA256"), ("SHA1", "IMPHASH"), ("SHA256",)), (70, 12, 8, 10))
    digits = {"IMPHASH": 32, "MD5": 32, "SHA1": 40, "SHA256": 64}
    return [
        f"{kind}={rng.getrandbits(4 * digits[kind]):0{digits[kind]}X}"
        for kind in kinds[0]
        for _ in range(rng.randint(1, 12))
    ]


def _command_line_alone(rng: random.Random, program: words.Program) -> tuple[Detection, str]:
    if rng.random() < 0.5:
        return {"selection": {"CommandLine|contains": _arguments(rng)}}, "selection"
    detection: Detection = {
        f"selection_{n}": {"CommandLine|contains|all": _arguments_all(rng)} for n in range(rng.randint(1, 4))
    }
    return detection, "1 of selection_*"


def _renamed(rng: random.Random, program: words.Program) -> tuple[Detection, str]:
    return {
        "selection": {"OriginalFileName": program.original},
        "filter_main_legit_name": {"Image|endswith": f"\\{program.name}"},
    }, "selection and not 1 of filter_main_*"


def _combinations(rng: random.Random, program: words.Program) -> tuple[Detection, str]:
    detection: Detection = {
        "selection_img": _image(program),
        "selection_flag_download": {"CommandLine|contains": _arguments(rng)},
        "selection_flag_execute": {"CommandLine|contains|all": _arguments_all(rng)},
        "selection_parent": {"ParentImage|endswith": _images(rng, 5)},
    }
    condition = rng.choice(
        (
            "selection_img and 1 of selection_flag_*",
            "selection_img and (selection_flag_download or all of selection_flag_*)",
            "(selection_img and selection_parent) or (selection_flag_download and selection_flag_execute)",
            "selection_img and not selection_parent and 1 of selection_flag_*",
        )
    )
    return detection, condition


#: (shape, share in per cent)
SHAPES: tuple[tuple[Callable[[random.Random, words.Program], tuple[Detection, str]], int], ...] = (
    (_program_and_arguments, 37),
    (_one_selection, 20),
    (_parent_and_child, 12),
    (_tool, 12),
    (_command_line_alone, 9),
    (_renamed, 3),
    (_combinations, 7),
)


def _with_features(rng: random.Random, detection: Detection, condition: str) -> str:
    """Add to the detection what `RATES` calls for; the condition that takes it in."""
    has = {feature for feature, rate in RATES.items() if rng.random() < rate}
    required: list[str] = []
    excluded: list[str] = []

    def more(name: str, selection: Value) -> None:
        detection[name] = selection
        required.append(name)

    for feature, name, selection in _extra_selections(rng):
        if feature in has:
            more(name, selection)
    for feature, pattern in (
        ("filter_main", "filter_main_*"),
        ("filter_optional", "filter_optional_*"),
        ("filter_plain", "filter"),
    ):
        if feature not in has:
            continue
        prefix = pattern.rstrip("*")
        for n in range(rng.choice((1, 1, 1, 2, 3)) if pattern.endswith("*") else 1):
            detection[f"{prefix}{rng.choice(words.VENDORS)}_{n}" if pattern != "filter" else pattern] = (
                _filter(rng)
            )
        excluded.append(f"1 of {pattern}" if pattern != "filter" else pattern)
    if "filter_main_*" in condition and "1 of filter_main_*" in excluded:
        excluded.remove("1 of filter_main_*")
    if "all of selection_*" in condition:
        required = [name for name in required if not name.startswith("selection_")]
    elif required and " " in condition:
        condition = f"({condition})"
    for name in required:
        condition = f"{condition} and {name}"
    for name in excluded:
        condition = f"{condition} and not {name}"
    return condition


def _extra_selections(rng: random.Random) -> Iterator[tuple[str, str, Value]]:
    """``(feature, name, selection)`` of everything that `RATES` may ask for."""
    path = rng.choice(words.PATHS)
    empty: tuple[Detection, ...] = (
        {"ParentImage": [None, ""]},
        {"CommandLine": None},
        {"Description": ["", None]},
        {"ParentImage|endswith": "\\services.exe", "Company": ""},
    )
    yield "regular_expression", "selection_re", {"CommandLine|re": rng.choice(words.EXPRESSIONS)}
    yield "windash", "selection_dash", {"CommandLine|contains|windash": f" -{rng.choice(words.LETTERS)} "}
    yield (
        "base64offset",
        "selection_encoded",
        {
            rng.choice(("CommandLine|base64offset|contains", "CommandLine|wide|base64offset|contains")): [
                rng.choice(words.CMDLETS) for _ in range(rng.randint(1, 3))
            ]
        },
    )
    yield (
        "wildcard_inside",
        "selection_wild",
        {"CommandLine|contains": f"{rng.choice(words.FLAGS)}*{rng.choice(words.NAMES)}"},
    )
    yield "starts_with", "selection_start", {"Image|startswith": [f"C:{path}", "C:\\PerfLogs\\"]}
    yield "user", "selection_user", {"User|contains": ["AUTHORI", "AUTORI"]}
    yield "integrity_level", "selection_level", {"IntegrityLevel": _integrity(rng)}
    yield "current_directory", "selection_dir", {"CurrentDirectory|contains": rng.choice(words.PATHS)}
    yield (
        "parent_command_line",
        "selection_parent_cli",
        {"ParentCommandLine|contains": rng.choice((*words.FLAGS, *words.PATHS))},
    )
    yield "logon_id", "selection_logon", {"LogonId": "0x3e7"}
    yield "parent_user", "selection_parent_user", {"ParentUser|contains": ["AUTHORI", "AUTORI"]}
    yield "null_or_empty", "selection_empty", rng.choice(empty)
    yield "non_ascii", "selection_special", {"CommandLine|contains": rng.choice(words.NON_ASCII)}
    yield "quotes", "selection_quoted", {"CommandLine|contains": rng.choice(words.QUOTED)}
    yield "question_mark", "selection_any", {"CommandLine|contains": f"{path}?.exe"}
    yield "escaped_wildcard", "selection_literal", {"CommandLine|contains": rng.choice(("\\*.dmp", "\\?"))}
    yield "number_or_pid", "selection_pid", {"ParentProcessId": 4}
    yield "exists", "selection_known", {"ParentCommandLine|exists": rng.random() < 0.5}
    yield "field_reference", "selection_same", {"Image|fieldref": "ParentImage"}
    yield "cased", "selection_cased", {"CommandLine|contains|cased": rng.choice(words.CMDLETS)}
    yield "cidr", "selection_net", {"CommandLine|cidr": "10.0.0.0/8"}
    yield "other_field", "selection_other", {rng.choice(words.OTHER_FIELDS): rng.choice(words.NAMES)}
    yield "keywords", "keywords", [rng.choice(words.NAMES), rng.choice(words.CMDLETS)]


def _integrity(rng: random.Random) -> Value:
    return rng.choice((["System", "S-1-16-16384"], "High", ["High", "System"], "Medium"))


def _filter(rng: random.Random) -> Value:
    choices: tuple[Detection, ...] = (
        {"Image|startswith": ["C:\\Program Files\\", "C:\\Program Files (x86)\\"]},
        {"ParentImage|endswith": _images(rng, 3)},
        {"CommandLine|contains": _argument(rng)},
        {"ParentImage": f"C:\\Windows\\System32\\{rng.choice(words.PROGRAMS).name}"},
        {
            "Image|contains": f"{rng.choice(words.PATHS)}",
            "ParentImage|startswith": "C:\\Windows\\",
        },
        {"CommandLine|contains|all": _arguments_all(rng), "ParentCommandLine|contains": _argument(rng)},
        {"CommandLine|endswith": ["/quiet", f"\\{rng.choice(words.PROGRAMS).name}", '"']},
        {"Image|endswith": _images(rng, 3), "Company": "Contoso Software AG"},
    )
    return rng.choices(choices, (25, 20, 15, 10, 10, 8, 8, 4))[0]


# ---- Microsoft 365 ---------------------------------------------------------------------------------------


def _m365(rng: random.Random, number: int) -> CorpusRule:
    service = rng.choices(("audit", "exchange", "threat_management", "threat_detection"), (55, 15, 27, 3))[0]
    subject = rng.choice(words.SUBJECTS)
    detection: Detection
    if service.startswith("threat"):
        detection = {
            "selection": {
                "eventSource": "SecurityComplianceCenter",
                "eventName": subject,
                "status": "success",
            },
            "condition": "selection",
        }
    else:
        detection = _audit(rng, service)
    slug = "".join(c if c.isalnum() else "_" for c in subject.lower())
    return CorpusRule(
        f"cloud/m365/{service}/microsoft365_{slug}_{number:04}.yml",
        _text(
            rng, f"{subject} {number}", subject.lower(), {"service": service, "product": "m365"}, detection
        ),
    )


def _audit(rng: random.Random, service: str) -> Detection:
    operations: Value = rng.sample(words.OPERATIONS, rng.randint(1, 4))
    selection: Detection = {"Operation": operations}
    if rng.random() < 0.25:
        selection["Workload"] = "Exchange"
    if rng.random() < 0.3:
        selection["ResultStatus"] = rng.choice(("True", "Succeeded", "Success"))
    if rng.random() < 0.2:
        selection["RecordType"] = rng.choice(("ExchangeAdmin", ["ExchangeItem", "ExchangeItemGroup"]))
    if service == "exchange" and rng.random() < 0.5:
        selection["Parameters|contains"] = rng.sample(words.PARAMETERS, 2)
    if rng.random() < 0.15:
        selection["ClientIP|cidr"] = ["203.0.113.0/24", "2001:db8::/32"]
    if rng.random() < 0.15:
        selection["UserAgent|contains"] = ["python", "curl/"]
    if rng.random() < 0.1:
        selection["ApplicationId"] = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    if rng.random() < 0.25:
        filtered: Detection = {"UserId|startswith": "NT AUTHORITY\\"}
        return {
            "selection": selection,
            "filter_main_system": filtered,
            "condition": "selection and not 1 of filter_main_*",
        }
    return {"selection": selection, "condition": "selection"}


# ---- text ------------------------------------------------------------------------------------------------


def _text(rng: random.Random, title: str, what: str, logsource: Detection, detection: Detection) -> str:
    tactic, techniques = rng.choice(words.TACTICS)
    day = f"20{rng.randint(19, 25)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    head: Detection = {
        "title": title,
        "id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "status": rng.choices(("test", "experimental", "stable"), (75, 20, 5))[0],
        "description": f"Detects {what}, which an intruder may use to reach a goal of {tactic}",
        "references": [
            f"https://example.org/reports/{rng.getrandbits(32):08x}" for _ in range(rng.randint(1, 3))
        ],
        "author": "Example Author",
        "date": day,
        "tags": [f"attack.{tactic}", *(f"attack.{t}" for t in rng.sample(techniques, rng.randint(1, 2)))],
        "logsource": logsource,
        "detection": detection,
        "falsepositives": [rng.choice(words.FALSE_POSITIVES)],
        "level": rng.choices(("low", "medium", "high", "critical"), (8, 40, 45, 7))[0],
    }
    quoted = ("detection",)
    return "".join(f"{line}\n" for key, value in head.items() for line in _yaml(key, value, 0, key in quoted))


def _yaml(key: str, value: Value, depth: int, quoted: bool) -> Iterator[str]:
    pad = "    " * depth
    if isinstance(value, dict):
        yield f"{pad}{key}:"
        for inner, item in value.items():
            yield from _yaml(inner, item, depth + 1, quoted and inner != "condition")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield f"{pad}{key}:"
        for item in value:
            if isinstance(item, dict):
                lines = [line for k, v in item.items() for line in _yaml(k, v, depth + 2, quoted)]
                yield f"{pad}    - {lines[0].lstrip()}"
                yield from (f"{line}" if line else "" for line in lines[1:])
            else:
                yield f"{pad}    - {_scalar(item, quoted)}"
    else:
        yield f"{pad}{key}: {_scalar(value, quoted)}"


def _scalar(value: Value, quoted: bool) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    text = str(value)
    return "'" + text.replace("'", "''") + "'" if quoted else text
