"""The apps over Splunk's management API, and the steps where there is none for them.

``POST /services/apps/local`` installs an archive that the *server* can read, by path or by URL: the API takes
no upload. An update puts the archive's files over the app's and leaves ``local/`` as it is, so what people
change in Splunk stays; a lookup file of the archive does replace the one that is there. So the app of a
site's lists is installed where it is missing, before the searches that name its lookups, and never again.
Sources: REST API Reference Manual, "apps/local" (name, filename, explicit_appname, update),
"configs/conf-{file}" and "search/jobs" (exec_mode=oneshot); Admin Config Service Manual, "Manage private
apps"; app.conf, deployer_lookups_push_mode.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import tarfile
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detection_pack.languages.conf import Stanzas, read_conf
from detection_pack.model.findings import PackError
from detection_pack.platforms.deploy_target import (
    Deployable,
    DeployRequest,
    DeployTarget,
    Environment,
    refused_file,
    same,
    secret,
)
from detection_pack.platforms.http_api import HttpApi, Refused, Words, basic, guarded_address
from detection_pack.platforms.splunk.app import ALLOWLIST_HEADER, APP, allowlist, read_archive
from detection_pack.platforms.splunk.lists import LISTS_APP

TOKEN, USER, PASSWORD = "SPLUNK_TOKEN", "SPLUNK_USERNAME", "SPLUNK_PASSWORD"
#: Where Splunk's server finds the two archives, and where the rows of the allow-list are kept.
LOCATION, LISTS_LOCATION, SAVE = "location", "lists-location", "save-allow-list"
_WORDS = Words(
    "--url",
    "Splunk's management port",
    "https://host:8089",
    {
        401: f"set {TOKEN}, or {USER} and {PASSWORD}",
        403: "use an account with the capabilities install_apps and edit_local_apps",
    },
    "give the URL of the management port (8089), not of Splunk Web",
    log="see splunkd.log",
)
_ARCHIVE, _LISTS_ARCHIVE = (re.compile(rf"splunk/{name}-[0-9A-Za-z.+-]+\.tgz") for name in (APP, LISTS_APP))
_MAKE = "make it in that app (docs/import/splunk.md, Tune)"
_CONFS = ("savedsearches", "macros")
#: What an app may hold, by its name: nothing that Splunk would run, and of lists no search.
_FILES = {
    name: re.compile(
        rf"README\.md|app\.manifest|default/({confs})\.conf|lookups/[a-z0-9_]+\.csv|metadata/default\.meta"
    )
    for name, confs in ((APP, "app|macros|savedsearches|transforms"), (LISTS_APP, "app|transforms"))
}


def opened(asked: DeployRequest) -> list[DeployTarget]:
    """The apps, lists first, on the Splunk that is asked for. Raises `PackError`."""
    if asked.url is None:
        raise PackError.at("--url", 1, "is missing", f"write {_WORDS.example}")
    address = guarded_address(asked.url, _WORDS, f"set {TOKEN}, or {USER} and {PASSWORD}")
    authorization, hidden = _authorization(asked.environment)
    api = HttpApi(
        address, _WORDS, authorization=authorization, secrets=hidden, ca_file=asked.ca_file, reason=_reason
    )
    path, content = archive_of(asked)
    save = asked.options.get(SAVE)
    location = _location(asked, LOCATION, path)
    searches = SplunkApp(api, path, content, location, Path(save) if save else None)
    listed = lists_of(asked)
    if listed is None:
        return [searches]
    place: str | None = _location(asked, LISTS_LOCATION, listed[0])
    if LOCATION in asked.options and LISTS_LOCATION not in asked.options:
        # The server is another machine, where the path of the file here is none.
        place = None
    searches.lists = SplunkLists(api, *listed, place)
    return [searches.lists, searches]


def _location(asked: DeployRequest, option: str, path: str) -> str:
    """Where the server finds an archive of the folder. Raises `PackError`."""
    location = asked.options.get(option) or str((asked.dist / path).resolve())
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", location) and not location.startswith("https://"):
        raise PackError.at(f"--{option}", 1, "is a URL that is not encrypted", "use https, or a path")
    return location


def steps(asked: DeployRequest) -> list[str]:
    """What a person does in Splunk Cloud, and on Splunk Enterprise without the management API."""
    path, _ = archive_of(asked)
    archive, listed = shlex.quote(str(asked.dist / path)), lists_of(asked)
    lists = None if listed is None else shlex.quote(str(asked.dist / listed[0]))
    return [
        *_lists_steps(lists),
        "# Splunk Cloud, with the Admin Config Service's command line. It signs in by STACK_USERNAME and",
        "# STACK_PASSWORD or STACK_TOKEN, and to AppInspect by SPLUNK_USERNAME and SPLUNK_PASSWORD, all of",
        "# the environment. Without it: Apps > Manage Apps > Uploaded Apps > Upload App, as sc_admin.",
        'acs config add-stack "$STACK" && acs config use-stack "$STACK"',
        *([] if lists is None else [f"acs apps install private --app-package {lists} --acs-legal-ack=Y"]),
        f"acs apps install private --app-package {archive} --acs-legal-ack=Y",
        "",
        "# Before an upgrade save the allow-list, because the app brings an empty one:",
        f"#   | inputlookup {allowlist()}",
        "# A search head cluster takes the apps from its deployer, which leaves its members' lookups as",
        "# they are (deployer_lookups_push_mode of app.conf, unless somebody has changed it):",
        *(
            f'tar -xzf {one} -C "$SPLUNK_HOME/etc/shcluster/apps"'
            for one in (lists, archive)
            if one is not None
        ),
        '"$SPLUNK_HOME/bin/splunk" apply shcluster-bundle -target "$CAPTAIN"',
        "",
        "# One search head, by its own command line:",
        *([] if lists is None else [f'"$SPLUNK_HOME/bin/splunk" install app {lists}']),
        f'"$SPLUNK_HOME/bin/splunk" install app {archive} -update 1',
    ]


def _lists_steps(lists: str | None) -> list[str]:
    """That the app of lists comes to Splunk once, because it brings its rows again."""
    if lists is None:
        return []
    return [
        f"# {LISTS_APP} holds the lists of the site, which the searches name: it comes first, and",
        "# once. Installed again, it would put its rows over those that people have put in. Where Apps >",
        "# Manage Apps shows it, leave its line out.",
        "",
    ]


def archive_of(asked: DeployRequest) -> tuple[str, bytes]:
    """The one app of searches in the folder. Raises `PackError`."""
    found = [path for path in asked.files if _ARCHIVE.fullmatch(path)]
    if len(found) != 1:
        raise refused_file("splunk", "does not hold one app")
    return found[0], asked.files[found[0]]


def lists_of(asked: DeployRequest) -> tuple[str, bytes] | None:
    """The app of a site's lists, None where the build has none. Raises `PackError`."""
    found = [path for path in asked.files if _LISTS_ARCHIVE.fullmatch(path)]
    if len(found) > 1:
        raise refused_file("splunk", "holds more than one app of lists")
    return (found[0], asked.files[found[0]]) if found else None


def _authorization(environment: Environment) -> tuple[str, tuple[str, ...]]:
    token, user, password = (secret(environment, name) for name in (TOKEN, USER, PASSWORD))
    if token is not None:
        return f"Bearer {token}", (token,)
    if user is None or password is None:
        raise PackError.at(TOKEN, 1, "is not set", f"set it in the environment, or {USER} and {PASSWORD}")
    return basic(user, password), (password,)


def _reason(answer: bytes) -> str:
    return "; ".join(str(one["text"]) for one in json.loads(answer)["messages"])


class _Splunkd:
    """What the targets ask of one app: its entry, its settings in force, and to be installed."""

    def __init__(self, api: HttpApi, app: str) -> None:
        self._api, self._app = api, app

    def entry(self) -> Mapping[str, Any] | None:
        """The app as it is installed; None where it is not."""
        try:
            [app] = self._entries(f"/services/apps/local/{self._app}")
        except Refused as error:
            if error.status == 404:
                return None
            raise
        except ValueError:
            raise self.odd() from None
        return app

    def install(self, location: str, update: bool) -> None:
        form = {"name": location, "filename": "true", "explicit_appname": self._app, "output_mode": "json"}
        if update:
            form["update"] = "true"
        self.form("/services/apps/local", form, again=update)

    def conf(self, name: str) -> dict[str, Mapping[str, Any]]:
        """The settings in force, ``local/`` over ``default/``, by stanza."""
        path = (
            f"/servicesNS/nobody/{self._app}/configs/conf-{name}?count=0&search=eai%3Aacl.app%3D{self._app}"
        )
        return {
            str(one.get("name")): one["content"]
            for one in self._entries(path)
            if isinstance(one.get("content"), dict)
        }

    def rows(self, lookup: str) -> list[Mapping[str, Any]]:
        form = {
            "search": f"| inputlookup {lookup}",
            "exec_mode": "oneshot",
            "output_mode": "json",
            "count": "0",
        }
        found = self.form(f"/servicesNS/nobody/{self._app}/search/jobs", form, again=True)
        rows = found.get("results") if isinstance(found, dict) else None
        if not isinstance(rows, list):
            raise self.odd()
        return [row for row in rows if isinstance(row, dict)]

    def form(self, path: str, form: Mapping[str, str], again: bool) -> Any:
        body = urllib.parse.urlencode(form).encode()
        return self._api.json("POST", path, body, kind="application/x-www-form-urlencoded", again=again)

    def _entries(self, path: str) -> list[Mapping[str, Any]]:
        found = self._api.json("GET", f"{path}{'&' if '?' in path else '?'}output_mode=json")
        entries = found.get("entry") if isinstance(found, dict) else None
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise self.odd()
        return entries

    def odd(self) -> PackError:
        return PackError.at(
            "--url", 1, f"{self._api.url} answers something else than splunkd", _WORDS.no_json
        )


class SplunkLists(DeployTarget):
    """The app of a site's lists as one thing. What is in its lookups is the site's; a lookup that is missing
    cannot come by an update, which would put the rows of the archive over those of all others."""

    once = True

    def __init__(self, api: HttpApi, path: str, content: bytes, location: str | None) -> None:
        self._splunkd, self._location = _Splunkd(api, LISTS_APP), location
        stanzas = _conf(path, _own_files(path, content, LISTS_APP), "transforms")
        self._item = Deployable(LISTS_APP, "app of lists", LISTS_APP, dict.fromkeys(stanzas, "a lookup"))

    def items(self) -> Sequence[Deployable]:
        if self._location is None and self._splunkd.entry() is None:
            raise PackError.at(
                f"--{LISTS_LOCATION}", 1, "is missing", f"say where the server finds {LISTS_APP}"
            )
        return [self._item]

    def there(self, item: Deployable) -> Mapping[str, Any] | None:
        if self._splunkd.entry() is None:
            return None
        return dict.fromkeys(self._splunkd.conf("transforms"), "a lookup")

    def missing(self) -> list[str]:
        """The lookups that the searches name and Splunk does not have."""
        there = self.there(self._item) or {}
        return sorted(set(self._item.body) - set(there))

    def create(self, items: Sequence[Deployable]) -> dict[str, str]:
        # Never with ``update``: an app that came to be there meanwhile is refused, and stays as it is.
        self._splunkd.install(self._location or "", update=False)
        return {}

    def update(self, item: Deployable, there: Mapping[str, Any], differs: Sequence[str]) -> None:
        raise NotImplementedError

    def kept(self, item: Deployable, there: Mapping[str, Any]) -> list[str]:
        return ["whatever is in it"]


class SplunkApp(DeployTarget):
    """The app as one thing: Splunk installs it whole. ``lists``: what its searches name, if anything."""

    lists: SplunkLists | None = None

    def __init__(self, api: HttpApi, path: str, content: bytes, location: str, save: Path | None) -> None:
        self._splunkd, self._location, self._save = _Splunkd(api, APP), location, save
        self._files = _own_files(path, content, APP)
        conf = _conf(path, self._files, "app")
        try:
            body = {"version": conf["launcher"]["version"], "build": conf["install"]["build"]}
        except KeyError as error:
            raise refused_file(path, f"says no {error} in app.conf") from error
        self._item = Deployable(APP, "app", APP, body)
        self._confs: dict[str, Stanzas] = {name: _conf(path, self._files, name) for name in _CONFS}

    def items(self) -> Sequence[Deployable]:
        return [self._item]

    def there(self, item: Deployable) -> Mapping[str, Any] | None:
        app = self._splunkd.entry()
        if app is None:
            return None
        build = self._splunkd.conf("app").get("install", {}).get("build")
        return {
            "version": str(app.get("content", {}).get("version")),
            "build": None if build is None else str(build),
        }

    def create(self, items: Sequence[Deployable]) -> dict[str, str]:
        if lacking := self._lacking():
            return {APP: lacking}
        self._splunkd.install(self._location, update=False)
        return {}

    def update(self, item: Deployable, there: Mapping[str, Any], differs: Sequence[str]) -> None:
        rows = self._allowed()
        if rows and self._save is None:
            raise PackError.at(
                "--save-allow-list",
                1,
                f"is missing: the allow-list has {len(rows)} rows, and the app brings an empty one",
                "name a new file for them",
            )
        if lacking := self._lacking():
            raise PackError.at(LISTS_APP, 1, lacking, _MAKE)
        if rows and self._save is not None:
            _write_rows(self._save, rows)
        self._splunkd.install(self._location, update=True)

    def kept(self, item: Deployable, there: Mapping[str, Any]) -> list[str]:
        """Settings that somebody has changed there, which stay in ``local/``; and the allow-list."""
        try:
            rows = self._allowed()
            said = [f"allow-list of {len(rows)} rows"] if rows else []
        except Refused:
            said = ["an allow-list that cannot be read"]
        if there == item.body:
            changed = sum(
                not same(value, _text(found.get(key)))
                for name, stanzas in self._confs.items()
                for found, settings in _pairs(stanzas, self._splunkd.conf(name))
                for key, value in settings.items()
            )
            said += [f"{changed} settings of yours"] if changed else []
        return said

    def _lacking(self) -> str:
        """Which lookups are missing that the searches name: each run of theirs would fail."""
        missing = [] if self.lists is None else self.lists.missing()
        return f"{LISTS_APP} lacks {', '.join(missing)}, which the searches name" if missing else ""

    def _allowed(self) -> list[Mapping[str, Any]]:
        """The rows of the allow-list, empty ones left out."""
        columns = ALLOWLIST_HEADER.strip().split(",")
        return [row for row in self._splunkd.rows(allowlist()) if any(row.get(name) for name in columns)]


def _text(value: Any) -> str:
    """A setting as it stands in a .conf file; the API gives some as JSON's true and false."""
    return str(int(value)) if isinstance(value, bool) else "" if value is None else str(value)


def _pairs(
    ours: Stanzas, there: Mapping[str, Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], Mapping[str, str]]]:
    return [(there.get(name, {}), settings) for name, settings in ours.items()]


def _own_files(path: str, content: bytes, app: str) -> Mapping[str, str]:
    """The files of the archive. One from elsewhere that holds what Splunk could run is refused."""
    allowed = _FILES[app]
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            members = archive.getmembers()
        odd = [
            member.name
            for member in members
            if not (
                member.isdir() or (member.isfile() and allowed.fullmatch(member.name.removeprefix(f"{app}/")))
            )
            or member.name.split("/")[0] != app
        ]
        if odd:
            raise refused_file(path, f"holds {odd[0]}, which no app of a pack has")
        return read_archive(content)
    except (tarfile.TarError, OSError, EOFError, UnicodeDecodeError) as error:
        raise refused_file(path, "is not an app of a pack") from error


def _conf(path: str, files: Mapping[str, str], name: str) -> Stanzas:
    try:
        return read_conf(files[f"default/{name}.conf"])
    except (KeyError, ValueError) as error:
        raise refused_file(path, f"has no {name}.conf") from error


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows as CSV, in a new file that its owner alone reads."""
    columns = ALLOWLIST_HEADER.strip().split(",")
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: row.get(name, "") for name in columns} for row in rows)
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise PackError.at(path, 1, "is there already", "name a new file for the allow-list") from error
    with os.fdopen(number, "w", encoding="utf-8", newline="") as file:
        file.write(text.getvalue())
