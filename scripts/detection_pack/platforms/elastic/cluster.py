"""A cluster of Elasticsearch over HTTP: where it is, who asks, and what its errors mean.

Nothing but the standard library. Credentials are sent in the header alone and stand in no message. A redirect
is an error, not followed: urllib would take the credentials along to another host.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detection_pack.model.findings import PackError

OPTION = "--elasticsearch"
API_KEY = "ELASTICSEARCH_API_KEY"
TIMEOUT_SECONDS = 120
#: HTTP 429 and 503 say "later"; the waits before it is asked again, in seconds.
_WAITS = (1.0, 3.0, 9.0)
_LATER = (429, 503)
#: The parts of a URL that are wanted, and nothing else of one.
_PORTS = {"http": 80, "https": 443}
_HINTS = {
    401: f"give --api-key-file, {API_KEY} or user:password@ in the URL",
    403: "use credentials that may create, write, read and delete indices named detection-pack-replay-*",
}


class Refused(PackError):
    """The cluster answered with an error. ``status`` is HTTP's; the reasons are the cluster's words."""

    def __init__(self, where: str, status: int, reason: str) -> None:
        hint = _HINTS.get(status, "see the cluster's log")
        self.status, self.reason = status, reason
        super().__init__(PackError.at(OPTION, 1, f"{where} answered {status}: {reason}", hint).findings)


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
        parts, port = _parts(url)
        host = parts.hostname or ""
        shown = f"[{host}]" if ":" in host else host
        #: Without credentials; what messages show.
        self.url = f"{parts.scheme}://{shown}:{port}{parts.path.rstrip('/')}"
        if parts.scheme == "http" and not _is_loopback(host) and not allow_http:
            raise PackError.at(
                OPTION,
                1,
                f"{self.url} is not encrypted",
                "use https, or --allow-http to send logs in the clear",
            )
        self._headers = {"Accept": "application/json"}
        if authorization := _authorization(parts, api_key_file, environment or {}):
            self._headers["Authorization"] = authorization
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if parts.scheme == "https":
            handlers.append(urllib.request.HTTPSHandler(context=_verified(ca_file)))
        if _is_loopback(host):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def request(self, method: str, path: str, body: Mapping[str, Any] | bytes | None = None) -> Any:
        """The answer's JSON; None where it is empty. Bytes are sent as NDJSON. Raises `Refused`, or
        `PackError` where there is no answer."""
        for wait in (*_WAITS, None):
            try:
                return self._once(method, path, body)
            except Refused as error:
                if error.status not in _LATER or wait is None:
                    raise
                time.sleep(wait)
        raise AssertionError("unreachable")

    def _once(self, method: str, path: str, body: Mapping[str, Any] | bytes | None) -> Any:
        headers = dict(self._headers)
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        if data is not None:
            kind = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
            headers["Content-Type"] = kind
        address = self.url + urllib.parse.quote(path, safe="/,?=&*")
        request = urllib.request.Request(address, data=data, method=method, headers=headers)
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(self.url, error.code, _reason(error)) from None
        except (OSError, http.client.HTTPException) as error:
            raise PackError.at(OPTION, 1, f"{self.url}: {_why(error)}", _todo(error)) from None
        try:
            return json.loads(text) if text else None
        except ValueError:
            raise PackError.at(
                OPTION,
                1,
                f"{self.url} answers, but not in JSON",
                "give the URL of Elasticsearch, not of Kibana",
            ) from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _parts(url: str) -> tuple[urllib.parse.SplitResult, int]:
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        parts, port = urllib.parse.urlsplit(""), 0
    plain = re.fullmatch(r"[!-~]+", url) and not (parts.query or parts.fragment)
    if not plain or parts.scheme not in _PORTS or not parts.hostname or not port:
        # The URL itself may hold a password.
        raise PackError.at(OPTION, 1, "not a URL of Elasticsearch", "write https://host:9200")
    return parts, port


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _verified(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise PackError.at(
            ca_file or "--ca-file", 1, "holds no certificate in PEM", "name the CA's"
        ) from error


def _authorization(
    parts: urllib.parse.SplitResult, api_key_file: Path | None, environment: Mapping[str, str]
) -> str | None:
    """The header's value: what the command line says, else what the environment says."""
    if api_key_file is not None and parts.username is not None:
        raise PackError.at(OPTION, 1, "two sets of credentials", "give --api-key-file or user:password@")
    if parts.username is not None:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"
    where, key = API_KEY, environment.get(API_KEY, "").strip()
    if api_key_file is not None:
        where, key = str(api_key_file), api_key_file.read_text(encoding="utf-8", errors="replace").strip()
    elif not key:
        return None
    if not re.fullmatch(r"[!-~]+", key):
        raise PackError.at(where, 1, "does not hold one API key", 'write the "encoded" key, or id:api_key')
    return f"ApiKey {base64.b64encode(key.encode()).decode() if ':' in key else key}"


def _reason(error: urllib.error.HTTPError) -> str:
    """Elasticsearch's own reason, the innermost first; the answer's start where it has none."""
    text = error.read(1_000_000).decode(errors="replace")
    try:
        stated = json.loads(text)["error"]
        causes = [*(stated.get("root_cause") or ()), stated]
        while isinstance(stated.get("caused_by"), dict):
            stated = stated["caused_by"]
            causes.insert(0, stated)
        return "; ".join(dict.fromkeys(str(c["reason"]) for c in causes if c.get("reason")))
    except (ValueError, TypeError, KeyError, AttributeError):
        return text[:300] or str(error.reason)


def _why(error: BaseException) -> str:
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({inner.verify_message})"
    if isinstance(inner, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS} seconds"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return str(inner) or type(inner).__name__


def _todo(error: BaseException) -> str:
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, ssl.SSLCertVerificationError):
        return "name your CA's certificate with --ca-file"
    return "check the URL and that the cluster runs"
