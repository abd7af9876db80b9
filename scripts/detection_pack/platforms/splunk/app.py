"""The Splunk app of the pack: every search as a scheduled alert, its macros and its allow-list.

Sources: savedsearches.conf, macros.conf, transforms.conf, app.conf and default.meta of the Admin Manual; for
Enterprise Security the savedsearches.conf of Splunk's own content (action.correlationsearch, action.notable,
action.risk). Searches come disabled. Without Enterprise Security nothing reads those three actions.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from detection_pack.languages.conf import Stanzas, conf_text, joined, one_line
from detection_pack.model.rule import Rule
from detection_pack.platforms.splunk.archive import tgz
from detection_pack.platforms.splunk.query import SplunkQuery

APP = "remote_email_collection"
LABEL = "Remote Email Collection"
ABOUT = "Detections of MITRE ATT&CK T1114.002, Remote Email Collection, built from Sigma rules."

ALLOWLIST = f"{APP}_allowlist"
ALLOWLIST_HEADER = "UserId,ClientIP,reason\n"
#: A result that the allow-list names by user and source is dropped. A lookup without rows finds nothing, so
#: an empty list drops nothing; a subsearch without rows would become the text NOT ().
EXCLUSION = f"lookup {ALLOWLIST} UserId, ClientIP OUTPUT UserId AS allowed | where isnull(allowed)"

#: The suffix of the search that reads the accelerated data set.
ON_DATA_SET = ".tstats"
ON_RAW_EVENTS = ".raw"
#: What the label of a rule's other searches adds to its title.
FORMS = {"": "", ON_DATA_SET: " (data model)", ON_RAW_EVENTS: " (raw events)"}

#: By level: severity in Enterprise Security, `alert.severity` (1 debug to 6 fatal), risk score.
SEVERITIES = {
    "informational": ("informational", "2", 10),
    "low": ("low", "3", 25),
    "medium": ("medium", "4", 50),
    "high": ("high", "5", 75),
    "critical": ("critical", "6", 90),
}
#: The definition of a macro that stands for an index: a site puts its own there.
ANY_INDEX = "index=*"

LICENSE = ("Detection Rule License 1.1", "https://github.com/SigmaHQ/Detection-Rule-License")


@dataclass(frozen=True)
class Credit:
    """Who wrote a rule: what the app says of it, and what its licence asks for."""

    name: str
    title: str
    id: str
    author: str

    def line(self) -> str:
        return f"- {self.name}: {self.title} ({self.id}), by {self.author or 'unknown'}"


def credit(rule: Rule) -> Credit:
    return Credit(rule.name, one_line(rule.title), rule.id, one_line(rule.main.data.get("author") or ""))


def app_archive(
    version: str, credits: Sequence[Credit], macros: str, searches: Sequence[str], indexes: Sequence[str] = ()
) -> bytes:
    """The app as a .tgz; see `app_files`."""
    files = app_files(version, credits, macros, searches, indexes)
    return tgz({f"{APP}/{path}": text.encode() for path, text in files.items()})


def app_files(
    version: str, credits: Sequence[Credit], macros: str, searches: Sequence[str], indexes: Sequence[str] = ()
) -> dict[str, str]:
    """The files of the app by path. ``macros`` is its macros.conf, ``searches`` each rule's stanzas,
    ``indexes`` the macros that a site sets to its indexes."""
    authors = [name for name in dict.fromkeys(one.author for one in credits) if name] or ["unknown"]
    return {
        "README.md": _readme(version, credits, indexes),
        "app.manifest": json.dumps(_manifest(version, authors), indent=2, ensure_ascii=False) + "\n",
        "default/app.conf": conf_text(_app_conf(version, authors)),
        "default/macros.conf": macros,
        "default/savedsearches.conf": joined(searches),
        "default/transforms.conf": conf_text(
            {ALLOWLIST: {"filename": f"{ALLOWLIST}.csv", "case_sensitive_match": "false", "max_matches": "1"}}
        ),
        f"lookups/{ALLOWLIST}.csv": ALLOWLIST_HEADER,
        "metadata/default.meta": _META,
    }


def exclusion(about: str) -> dict[str, str]:
    """The macro of exclusions as the app has it, where its allow-list can be read."""
    return {"definition": EXCLUSION, "description": about, "iseval": "0"}


# Macros stay inside the app: a site may have others of the same name. Enterprise Security lists the
# searches of other apps only if they are exported.
_META = """[]
access = read : [ * ], write : [ admin, sc_admin ]
export = none

[savedsearches]
export = system

[lookups]
export = system

[transforms]
export = system
"""


def saved_searches(rule: Rule, query: SplunkQuery) -> Stanzas:
    """A stanza a search, named as its file in queries/."""
    stanzas: Stanzas = {}
    for form, text in zip(FORMS, (query.text, query.data_set_text, query.raw_text), strict=True):
        if text is not None:
            stanzas[rule.name + form] = saved_search(rule, query, rule.name + form, text)
    return stanzas


def saved_searches_text(rule: Rule, query: SplunkQuery) -> str:
    """The rule's stanzas. Raises `PackError` for a rule that savedsearches.conf cannot hold."""
    try:
        return conf_text(saved_searches(rule, query))
    except ValueError as error:
        raise rule.refused(error, "name") from error


def saved_search(rule: Rule, query: SplunkQuery, stanza: str, text: str) -> dict[str, str]:
    """The settings of one scheduled search.

    It runs each hour over the whole look-back, because audit records arrive late, and throttles what it has
    already shown. The minute comes from the name, so that the searches do not start together.
    """
    severity, number, _ = SEVERITIES.get(rule.level, SEVERITIES["medium"])
    label = one_line(rule.title) + FORMS[stanza.removeprefix(rule.name)]
    throttled = [c for c, field in (("UserId", rule.alert.user), ("ClientIP", rule.alert.source)) if field]
    minute = int.from_bytes(hashlib.sha256(stanza.encode()).digest()[:4], "big") % 60
    described = one_line(rule.main.data.get("description") or rule.title)
    author = one_line(rule.main.data.get("author") or "unknown")
    described = f"{described} Sigma rule {rule.id} by {author}, {LICENSE[0]}."
    return {
        "search": text.rstrip("\n"),
        "description": described,
        "disabled": "1",
        "enableSched": "1",
        "cron_schedule": f"{minute} * * * *",
        "dispatch.earliest_time": f"-{rule.lookback}",
        "dispatch.latest_time": "now",
        "schedule_window": "auto",
        "allow_skew": "5m",
        "counttype": "number of events",
        "relation": "greater than",
        "quantity": "0",
        "alert.track": "1",
        "alert.severity": number,
        # One alert a result: fields to throttle by belong to alerts a result (savedsearches.conf).
        "alert.digest_mode": "0",
        "alert.suppress": "1",
        "alert.suppress.fields": ",".join(throttled or ["DetectionType"]),
        "alert.suppress.period": rule.lookback,
        "action.correlationsearch.enabled": "1",
        "action.correlationsearch.label": literal(label),
        "action.correlationsearch.annotations": _json(_annotations(rule)),
        "action.notable": "1",
        "action.notable.param.rule_title": f"{literal(label)} : $UserId$ , $ClientIP$",
        "action.notable.param.rule_description": f"$DetectionDetail$ . {literal(described)}",
        "action.notable.param.security_domain": query.security_domain,
        "action.notable.param.severity": severity,
        "action.risk": "1",
        "action.risk.param._risk": _json(_risk(rule, query.hosts)),
        "action.risk.param._risk_message": f"{literal(one_line(rule.alert.type))} : $UserId$ , $ClientIP$",
        "action.risk.param.verbose": "0",
    }


def literal(text: str) -> str:
    """Text of a rule for an alert action, in which ``$name$`` is replaced by a value of the result.

    No escape for a dollar sign is documented there, so a blank breaks what would be a name.
    """
    return re.sub(r"\$(?=[^$\s]*\$)", "$ ", text)


def _annotations(rule: Rule) -> dict[str, Any]:
    found: dict[str, Any] = {"mitre_attack": list(rule.techniques), "sigma_rule": [rule.id]}
    if rule.main.data.get("confidence") is not None:
        found["sigma_confidence"] = [one_line(rule.main.data["confidence"])]
    return {key: value for key, value in found.items() if value}


def _risk(rule: Rule, hosts: Container[str]) -> list[dict[str, Any]]:
    """Who gains risk: the account, and the host where the source of the alert is one; an address is a threat
    object."""
    _, _, score = SEVERITIES.get(rule.level, SEVERITIES["medium"])
    found: list[dict[str, Any]] = []
    if rule.alert.user is not None:
        found.append({"risk_object_field": "UserId", "risk_object_type": "user", "risk_score": score})
    if rule.alert.source in hosts:
        found.append({"risk_object_field": "ClientIP", "risk_object_type": "system", "risk_score": score})
    elif rule.alert.source is not None:
        found.append({"threat_object_field": "ClientIP", "threat_object_type": "ip_address"})
    return found


def _json(value: Any) -> str:
    # ASCII only, a dollar sign too: the text is JSON again when the action reads it.
    return json.dumps(value).replace("$", "\\u0024")


def _app_conf(version: str, authors: Sequence[str]) -> Stanzas:
    return {
        "install": {"is_configured": "0", "build": "1"},
        "ui": {"is_visible": "0", "label": LABEL},
        "launcher": {"author": ", ".join(authors), "description": ABOUT, "version": version},
        "package": {"id": APP, "check_for_updates": "0"},
        "id": {"name": APP, "version": version},
    }


def _manifest(version: str, authors: Sequence[str]) -> dict[str, Any]:
    """app.manifest, schema 2.0.0 of Splunk's packaging toolkit."""
    return {
        "schemaVersion": "2.0.0",
        "info": {
            "title": LABEL,
            "id": {"group": None, "name": APP, "version": version},
            "author": [{"name": name, "email": None, "company": None} for name in authors],
            "releaseDate": None,
            "description": ABOUT,
            "classification": {
                "intendedAudience": "Security Operations",
                "categories": ["Security, Fraud & Compliance"],
                "developmentStatus": "Production/Stable",
            },
            "commonInformationModels": None,
            "license": {"name": LICENSE[0], "text": None, "uri": LICENSE[1]},
            "privacyPolicy": {"name": None, "text": None, "uri": None},
            "releaseNotes": {"name": "README", "text": "./README.md", "uri": None},
        },
        "dependencies": None,
        "tasks": None,
        "inputGroups": None,
        "incompatibleApps": None,
        "platformRequirements": {"splunk": {"Enterprise": ">=9.0"}},
        "supportedDeployments": ["_standalone", "_distributed", "_search_head_clustering"],
        "targetWorkloads": ["_search_heads"],
    }


def _readme(version: str, credits: Sequence[Credit], indexes: Sequence[str]) -> str:
    # Markdown takes the end of a line for a space.
    named = " and\n".join(indexes)
    lines = [
        f"# {LABEL} {version}",
        "",
        ABOUT,
        "",
        "Every search is a disabled, scheduled alert. Before you enable one, set "
        + (f"the macros {named} to your indexes" if named else "its macros")
        + ". Results that are allowed go into the lookup file",
        f"{ALLOWLIST}.csv, a row for each pair of UserId and ClientIP; the macro <name>_filter",
        "takes any other condition. Keep your changes outside default/ and save the lookup file before an",
        "upgrade.",
        "",
        f"Rules under the {LICENSE[0]}, {LICENSE[1]}:",
        "",
        *(one.line() for one in credits),
    ]
    return "\n".join(lines) + "\n"
