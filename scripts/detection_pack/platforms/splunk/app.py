"""The Splunk app of the pack as an archive, written and read: searches, macros, and the allow-list of a site.

Sources: transforms.conf, app.conf and default.meta of the Admin Manual, and Splunk's packaging toolkit. What
stands in macros.conf and savedsearches.conf comes from `imports`.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection_pack.languages.conf import Stanzas, conf_text, joined, one_line, read_conf
from detection_pack.languages.spl.spl_steps import Lookup
from detection_pack.model.collection import PACK, collection
from detection_pack.model.findings import PackError
from detection_pack.model.rule import PACK_LICENCE, Rule
from detection_pack.platforms.splunk.archive import tgz
from detection_pack.platforms.splunk.lists import LISTS_APP, lookups_in, read_lookups

#: The app of the pack itself.
APP = PACK.name

ALLOWLIST_HEADER = "UserId,ClientIP,reason\n"
#: A result that the allow-list names by user and source is dropped. A lookup without rows finds nothing, so
#: an empty list drops nothing; a subsearch without rows would become the text NOT (). Whether an empty cell
#: equals an empty value is not documented: a result without a user or a source is kept, so that no such row
#: drops one.
_EXCLUSION = (
    "lookup {allowlist} UserId, ClientIP OUTPUT UserId AS allowed"
    ' | where isnull(allowed) OR UserId="" OR ClientIP=""'
)

LICENSE = (PACK_LICENCE, "https://github.com/SigmaHQ/Detection-Rule-License")


def allowlist() -> str:
    """The lookup of what a site allows."""
    return f"{collection().name}_allowlist"


def exclusion_search() -> str:
    """The definition of the macro of exclusions in the app."""
    return _EXCLUSION.format(allowlist=allowlist())


@dataclass(frozen=True)
class Credit:
    """Who wrote a rule: what the app says of it, and what its licence asks for."""

    name: str
    title: str
    id: str
    author: str
    licence: str

    def line(self, with_licence: bool) -> str:
        said = f"- {self.name}: {self.title} ({self.id}), by {self.author or 'unknown'}"
        return f"{said}, {self.licence or 'licence not stated'}" if with_licence else said


def credit(rule: Rule) -> Credit:
    author = one_line(rule.main.data.get("author") or "")
    return Credit(rule.name, one_line(rule.title), rule.id, author, one_line(rule.licence))


#: What a search needs: the macro that finds the events, what fills it in a sentence, and a search that finds
#: nothing where it is silent.
Needed = tuple[str, str, str]


def app_archive(files: Mapping[str, str]) -> bytes:
    """The `app_files` as a .tgz."""
    return tgz({f"{collection().name}/{path}": text.encode() for path, text in files.items()})


def app_files(
    version: str,
    credits: Sequence[Credit],
    macros: str,
    searches: Sequence[str],
    indexes: Sequence[str] = (),
    needed: Sequence[Needed] = (),
) -> dict[str, str]:
    """The files of the app by path. ``macros`` is its macros.conf, ``searches`` each rule's stanzas,
    ``indexes`` the macros that a site sets to its indexes."""
    authors = [name for name in dict.fromkeys(one.author for one in credits) if name] or ["unknown"]
    listed = allowlist()
    files = {
        "README.md": _readme(version, credits, indexes, needed),
        "app.manifest": json.dumps(_manifest(version, authors, credits), indent=2, ensure_ascii=False) + "\n",
        "default/macros.conf": macros,
        "default/savedsearches.conf": joined(searches),
        "default/transforms.conf": conf_text(
            {listed: {"filename": f"{listed}.csv", "case_sensitive_match": "false", "max_matches": "1"}}
        ),
        f"lookups/{listed}.csv": ALLOWLIST_HEADER,
        "metadata/default.meta": _META,
    }
    return files | {"default/app.conf": conf_text(_app_conf(version, authors, _build(files)))}


def _build(files: Mapping[str, str]) -> int:
    """A number of the app's content, from 1 up: by it a deployment tells builds of one version apart."""
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:4], "big") % (2**31 - 1) + 1


def exclusion(about: str) -> dict[str, str]:
    """The macro of exclusions as the app has it, where its allow-list can be read."""
    return {"definition": exclusion_search(), "description": about, "iseval": "0"}


# Enterprise Security lists the searches of other apps only if they are exported, and runs a drill-down
# outside of this one, where it needs the macros. A search of this app uses the app's own macro in any case,
# whoever exports another of that name.
_META = """[]
access = read : [ * ], write : [ admin, sc_admin ]
export = none

[savedsearches]
export = system

[macros]
export = system

[lookups]
export = system

[transforms]
export = system
"""


def _app_conf(version: str, authors: Sequence[str], build: int) -> Stanzas:
    return {
        "install": {"is_configured": "0", "build": str(build)},
        "ui": {"is_visible": "0", "label": collection().title},
        "launcher": {"author": ", ".join(authors), "description": collection().about, "version": version},
        "package": {"id": collection().name, "check_for_updates": "0"},
        "id": {"name": collection().name, "version": version},
    }


def _manifest(version: str, authors: Sequence[str], credits: Sequence[Credit]) -> dict[str, Any]:
    """app.manifest, schema 2.0.0 of Splunk's packaging toolkit."""
    licences = list(dict.fromkeys(one.licence for one in credits if one.licence))
    return {
        "schemaVersion": "2.0.0",
        "info": {
            "title": collection().title,
            "id": {"group": None, "name": collection().name, "version": version},
            "author": [{"name": name, "email": None, "company": None} for name in authors],
            "releaseDate": None,
            "description": collection().about,
            "classification": {
                "intendedAudience": "Security Operations",
                "categories": ["Security, Fraud & Compliance"],
                "developmentStatus": "Production/Stable",
            },
            "commonInformationModels": None,
            "license": {
                "name": ", ".join(licences) or None,
                "text": None,
                "uri": LICENSE[1] if licences == [LICENSE[0]] else None,
            },
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


def _readme(version: str, credits: Sequence[Credit], indexes: Sequence[str], needed: Sequence[Needed]) -> str:
    # Markdown takes the end of a line for a space.
    named = " and\n".join(indexes)
    shared = all(one.licence == LICENSE[0] for one in credits)
    lines = [
        f"# {collection().title} {version}",
        "",
        collection().about,
        "",
        "Every search is a disabled, scheduled alert, but for those to hunt with, which are reports that",
        "nothing runs by itself. Before you enable or run one, set "
        + (f"the macros {named} to your indexes" if named else "its macros")
        + ". Results that are allowed go into the lookup",
        f"{allowlist()}, a row for each pair of UserId and ClientIP; the macro <name>_filter",
        "takes any other condition. Keep your changes outside default/ and save the lookup before an",
        "upgrade.",
        "",
        *_needs(needed),
        f"Rules under the {LICENSE[0]}, {LICENSE[1]}:" if shared else "Rules, each under its own licence:",
        "",
        *(one.line(not shared) for one in credits),
    ]
    return "\n".join(lines) + "\n"


def _needs(needed: Sequence[Needed]) -> list[str]:
    if not needed:
        return []
    lines = ["What must be there; a search that finds nothing over the last day means that it is silent:", ""]
    for macro, sentence, silent in needed:
        lines += [f"- `{macro}`: {one_line(sentence)}", "", f"      {one_line(silent)}", ""]
    return lines


@dataclass(frozen=True)
class App:
    """What a search head would load of an app. ``path`` is relative to dist/."""

    path: str
    saved_searches: Stanzas
    macros: Mapping[str, str]
    lookups: Mapping[str, Lookup]


def open_app(dist: Path) -> App:
    """The one app of ``dist``, with the lookups of the site's lists where it has them. Raises `PackError`
    where there is none or it cannot be read."""
    listed = f"{LISTS_APP}-"
    found = sorted(path for path in (dist / "splunk").glob("*.tgz") if not path.name.startswith(listed))
    if len(found) != 1:
        raise PackError.at(
            dist / "splunk", 1, "does not hold one app", "build the pack: detection-pack build"
        )
    try:
        files = read_archive(found[0].read_bytes())
        macros = read_conf(files["default/macros.conf"])
        return App(
            found[0].relative_to(dist).as_posix(),
            read_conf(files["default/savedsearches.conf"]),
            {name: settings["definition"] for name, settings in macros.items()},
            read_lookups(files) | lookups_in(dist),
        )
    except (tarfile.TarError, OSError, KeyError, UnicodeDecodeError) as error:
        raise PackError.at(found[0], 1, "is not an app of this pack", "run detection-pack build") from error


def read_archive(archive: bytes) -> dict[str, str]:
    """The files of the app by their path in it. Raises tarfile.TarError, OSError or UnicodeDecodeError for
    what is no app of ours."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
        found = (
            (member.name, opened.extractfile(member)) for member in opened.getmembers() if member.isfile()
        )
        return {name.partition("/")[2]: file.read().decode("utf-8") for name, file in found if file}
