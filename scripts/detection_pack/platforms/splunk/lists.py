"""The lists of a site as an app of their own, written and read: one lookup a list.

An update of an app puts the files of its archive over those that are there, lookups too, so what people edit
does not travel with the searches: this app is installed once and belongs to the site from then on. Sources:
transforms.conf of the Admin Manual (match_type, case_sensitive_match, max_matches) and "Add field matching
rules to your lookup configuration" of the Knowledge Manager Manual.
"""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from detection_pack.languages.conf import Stanzas, conf_text, read_conf
from detection_pack.languages.spl.spl_steps import Lookup
from detection_pack.model.findings import PackError
from detection_pack.model.list_table import ADDRESS, ListTable
from detection_pack.platforms.splunk.archive import tgz

LISTS_APP = "remote_email_collection_lists"
_LABEL = "Remote Email Collection: lists of the site"
_ABOUT = "What the searches of Remote Email Collection leave out. It belongs to the site: install it once."
_NETWORKS = re.compile(r"CIDR\((\w+)\)")
_META = """[]
access = read : [ * ], write : [ admin, sc_admin ]
export = none

[lookups]
export = system

[transforms]
export = system
"""


def lists_archive(tables: Iterable[ListTable], version: str) -> bytes:
    """The app as a .tgz."""
    return tgz({f"{LISTS_APP}/{path}": text.encode() for path, text in _app_files(tables, version).items()})


def _app_files(tables: Iterable[ListTable], version: str) -> dict[str, str]:
    named = {table.shared_name: table for table in sorted(tables, key=lambda table: table.name)}
    return {
        "README.md": _readme(named, version),
        "app.manifest": json.dumps(_manifest(version), indent=2) + "\n",
        "default/app.conf": conf_text(_app_conf(version)),
        "default/transforms.conf": conf_text({name: _settings(name, t) for name, t in named.items()}),
        "metadata/default.meta": _META,
        **{f"lookups/{name}.csv": _csv(table) for name, table in named.items()},
    }


def _settings(name: str, table: ListTable) -> dict[str, str]:
    networks = {"match_type": f"CIDR({ADDRESS})"} if ADDRESS in table.columns else {}
    return {"filename": f"{name}.csv", "case_sensitive_match": "false", "max_matches": "1", **networks}


def _csv(table: ListTable) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([table.header, *table.rows])
    return text.getvalue()


def _app_conf(version: str) -> Stanzas:
    return {
        "install": {"is_configured": "0"},
        "ui": {"is_visible": "0", "label": _LABEL},
        "launcher": {"author": "the site", "description": _ABOUT, "version": version},
        "package": {"id": LISTS_APP, "check_for_updates": "0"},
        "id": {"name": LISTS_APP, "version": version},
    }


def _manifest(version: str) -> dict[str, object]:
    return {
        "schemaVersion": "2.0.0",
        "info": {
            "title": _LABEL,
            "id": {"group": None, "name": LISTS_APP, "version": version},
            "author": [{"name": "the site", "email": None, "company": None}],
            "description": _ABOUT,
            "license": {"name": None, "text": None, "uri": None},
        },
        "platformRequirements": {"splunk": {"Enterprise": ">=9.0"}},
        "supportedDeployments": ["_standalone", "_distributed", "_search_head_clustering"],
        "targetWorkloads": ["_search_heads"],
    }


def _readme(named: Mapping[str, ListTable], version: str) -> str:
    lines = [
        f"# {_LABEL} {version}",
        "",
        _ABOUT,
        "An update of this app would put its rows over yours: update the app of the searches alone.",
        "",
        "A row leaves out what has all of its values. Letter case does not count, an address may be a",
        "network.",
        "A row with an empty cell leaves out nothing, and of rows that match the first in the file counts.",
        "",
        *(f"- `{name}`: {', '.join(table.header)}" for name, table in named.items()),
    ]
    return "\n".join(lines) + "\n"


def lookups_in(dist: Path) -> dict[str, Lookup]:
    """The lookups of the app of lists, none where a build has no such app. Raises `PackError`."""
    found = sorted((dist / "splunk").glob(f"{LISTS_APP}-*.tgz"))
    lookups: dict[str, Lookup] = {}
    for path in found:
        try:
            with tarfile.open(path, mode="r:gz") as archive:
                members = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
                files = {
                    name.removeprefix(f"{LISTS_APP}/"): file.read().decode()
                    for name, file in members.items()
                    if file is not None
                }
            lookups |= read_lookups(files)
        except (tarfile.TarError, OSError, EOFError, KeyError, ValueError) as error:
            raise PackError.at(path, 1, "is not an app of lists", "build again") from error
    return lookups


def read_lookups(files: Mapping[str, str]) -> dict[str, Lookup]:
    """The lookups of an app by name. Raises KeyError for a file that is missing."""
    return {
        name: Lookup(
            list(csv.DictReader(io.StringIO(files[f"lookups/{settings['filename']}"], newline=""))),
            settings.get("case_sensitive_match", "true") == "true",
            _networks(settings.get("match_type", "")),
        )
        for name, settings in read_conf(files["default/transforms.conf"]).items()
    }


def _networks(match_type: str) -> Sequence[str]:
    return tuple(_NETWORKS.findall(match_type))
