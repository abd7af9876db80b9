"""A cluster of Elasticsearch over HTTP: where it is, who asks, and what its errors mean."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detection_pack.model.findings import PackError
from detection_pack.platforms.http_api import Address, HttpApi, Refused, Words, address_of, basic

__all__ = ["API_KEY", "OPTION", "Cluster", "Refused", "api_key", "own_reason", "refusal"]

OPTION = "--elasticsearch"
API_KEY = "ELASTICSEARCH_API_KEY"
_WORDS = Words(
    OPTION,
    "Elasticsearch",
    "https://host:9200",
    {
        401: f"give --api-key-file, {API_KEY} or user:password@ in the URL",
        403: "use credentials that may create, write, read and delete indices named detection-pack-replay-*",
    },
    "give the URL of Elasticsearch, not of Kibana",
    "check the URL and that the cluster runs",
    "see the cluster's log",
)


class Cluster:
    """A client for one cluster.

    ``url`` is ``http[s]://[user:password@]host[:port][/path]``. Raises `PackError` for a URL that is not, for
    http to another machine without ``allow_http`` (logs and credentials would travel unencrypted), for two
    sets of credentials, and for a file that holds none. ``environment`` is where `API_KEY` may stand.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key_file: Path | None = None,
        ca_file: Path | None = None,
        allow_http: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        address = address_of(url, _WORDS)
        #: Without credentials; what messages show.
        self.url = address.url
        if not address.encrypted and not address.loopback and not allow_http:
            raise PackError.at(
                OPTION,
                1,
                f"{self.url} is not encrypted",
                "use https, or --allow-http to send logs in the clear",
            )
        authorization = _authorization(address, api_key_file, environment or {})
        self._api = HttpApi(address, _WORDS, authorization=authorization, ca_file=ca_file, reason=own_reason)

    def request(self, method: str, path: str, body: Mapping[str, Any] | bytes | None = None) -> Any:
        """The answer's JSON; None where it is empty. Bytes are sent as NDJSON. Raises `Refused`, or
        `PackError` where there is no answer."""
        kind = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
        # A replay writes documents and indices under names of its own: a second time changes nothing.
        return self._api.json(method, urllib.parse.quote(path, safe="/,?=&*"), body, kind=kind, again=True)


def refusal(where: str, status: int, reason: str) -> Refused:
    """The error for a document that a cluster did not take."""
    return Refused(OPTION, where, status, reason, _WORDS.hints.get(status, _WORDS.log))


def _authorization(address: Address, api_key_file: Path | None, environment: Mapping[str, str]) -> str | None:
    """The header's value: what the command line says, else what the environment says."""
    if api_key_file is not None and address.user is not None:
        raise PackError.at(OPTION, 1, "two sets of credentials", "give --api-key-file or user:password@")
    if address.user is not None:
        return basic(address.user, address.password or "")
    where, key = API_KEY, environment.get(API_KEY, "").strip()
    if api_key_file is not None:
        where, key = str(api_key_file), api_key_file.read_text(encoding="utf-8", errors="replace").strip()
    elif not key:
        return None
    return api_key(where, key)


def api_key(where: str, key: str) -> str:
    """The header's value for an API key of Elasticsearch, in either of its forms. Raises `PackError`."""
    if not re.fullmatch(r"[!-~]+", key):
        raise PackError.at(where, 1, "does not hold one API key", 'write the "encoded" key, or id:api_key')
    return f"ApiKey {base64.b64encode(key.encode()).decode() if ':' in key else key}"


def own_reason(answer: bytes) -> str:
    """Elasticsearch's own reason, the innermost first. Raises ValueError, TypeError, KeyError or
    AttributeError where it has none."""
    stated = json.loads(answer)["error"]
    causes = [*(stated.get("root_cause") or ()), stated]
    while isinstance(stated.get("caused_by"), dict):
        stated = stated["caused_by"]
        causes.insert(0, stated)
    return "; ".join(dict.fromkeys(str(c["reason"]) for c in causes if c.get("reason")))
