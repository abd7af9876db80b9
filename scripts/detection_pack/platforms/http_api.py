"""A product's API over HTTP: where it is, who asks, when it is asked again, and what its errors mean.

Nothing but the standard library. Credentials are sent in the header alone and stand in no message, not even
where a server sends them back. A redirect is an error, not followed: urllib would take the credentials along
to another host. Certificates are verified always. What is asked again, and when, follows RFC 9110 (idempotent
methods, 9.2.2; Retry-After, 10.2.3).
"""

from __future__ import annotations

import base64
import email.utils
import http.client
import ipaddress
import json
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from detection_pack.model.findings import PackError

TIMEOUT_SECONDS = 120
#: The waits before a request is repeated, in seconds, and the longest that a server may ask for.
WAITS = (1.0, 3.0, 9.0)
LONGEST_WAIT = 60.0
#: "Later", by the server or by what stands in front of it.
_LATER = (429, 502, 503, 504)
#: The parts of a URL that are wanted, and nothing else of one.
_PORTS = {"http": 80, "https": 443}
#: The most that an answer may hold, and the characters of it that a message shows.
_ANSWER_BYTES, _SHOWN = 64_000_000, 300


class Refused(PackError):
    """A server answered with an error. ``status`` is HTTP's, ``reason`` the server's words, ``answer`` the
    start of what it sent."""

    def __init__(
        self, option: str, where: str, status: int, reason: str, hint: str, answer: bytes = b""
    ) -> None:
        self.status, self.reason, self.answer = status, reason, answer
        super().__init__(PackError.at(option, 1, f"{where} answered {status}: {reason}", hint).findings)


class Unanswered(PackError):
    """No answer came. ``lost``: the request may have been carried out all the same."""

    def __init__(self, option: str, where: str, why: str, hint: str, lost: bool) -> None:
        self.lost = lost
        super().__init__(PackError.at(option, 1, f"{where}: {why}", hint).findings)


@dataclass(frozen=True)
class Words:
    """How messages speak of a product: the option that names its URL, what it is, an example of one, what to
    do where it answers an HTTP status, and where its answer is no JSON."""

    option: str
    product: str
    example: str
    hints: Mapping[int, str] = field(default_factory=dict)
    no_json: str = "check the URL"
    runs: str = "check the URL and that it runs"
    log: str = "see the server's log"


@dataclass(frozen=True)
class Address:
    """A URL taken apart. ``url`` is without credentials; ``user`` and ``password`` are those that it held."""

    url: str
    host: str
    encrypted: bool
    user: str | None = None
    password: str | None = None

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)


def address_of(url: str, words: Words) -> Address:
    """``http[s]://[user:password@]host[:port][/path]``. Raises `PackError`, which does not show the URL: it
    may hold a password."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
        # What the resolver will ask for; an empty or too long label of a name is an error only there.
        (parts.hostname or "").encode("idna")
    except ValueError:
        parts, port = urllib.parse.urlsplit(""), 0
    plain = re.fullmatch(r"[!-~]+", url) and not (parts.query or parts.fragment)
    host = parts.hostname or ""
    if not plain or parts.scheme not in _PORTS or not host or not port:
        raise PackError.at(words.option, 1, f"is not a URL of {words.product}", f"write {words.example}")
    shown = f"[{host}]" if ":" in host else host
    user, password = (
        None if part is None else urllib.parse.unquote(part) for part in (parts.username, parts.password)
    )
    whole = f"{parts.scheme}://{shown}:{port}{parts.path.rstrip('/')}"
    return Address(whole, host, parts.scheme == "https", user, password)


def guarded_address(url: str, words: Words, instead: str) -> Address:
    """The same for credentials of the environment. Raises `PackError` also for a URL that holds some, with
    ``instead`` as the hint, and for one that would send them in clear."""
    address = address_of(url, words)
    if address.user is not None:
        what = "holds credentials, which everybody sees in the list of processes"
        raise PackError.at(words.option, 1, what, instead)
    if not address.encrypted and not address.loopback:
        raise PackError.at(words.option, 1, f"{address.url} is not encrypted", "use https")
    return address


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def basic(user: str, password: str) -> str:
    """The header's value for a name and a password."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


class HttpApi:
    """A client for one API.

    ``reason`` finds the server's own words in the content of an error's answer, and raises ValueError,
    TypeError, KeyError or AttributeError where there are none. ``authorization`` is the header's value;
    ``secrets`` are what no message may show, besides it.
    """

    def __init__(
        self,
        address: Address,
        words: Words,
        *,
        authorization: str | None = None,
        secrets: tuple[str, ...] = (),
        headers: Mapping[str, str] | None = None,
        ca_file: Path | None = None,
        reason: Callable[[bytes], str] | None = None,
    ) -> None:
        self.url, self.words = address.url, words
        self._headers = {"Accept": "application/json", **(headers or {})}
        if authorization:
            self._headers["Authorization"] = authorization
        parts = [authorization, (authorization or "").partition(" ")[2], *secrets]
        # The longest first: one may hold another.
        self._secrets = sorted({one for one in parts if one}, key=len, reverse=True)
        self._reason = reason
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if address.encrypted:
            handlers.append(urllib.request.HTTPSHandler(context=verified(ca_file)))
        if address.loopback:
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def json(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        *,
        kind: str = "application/json",
        again: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """`content` as JSON; None where it is empty."""
        text = self.content(method, path, body, kind=kind, again=again, headers=headers)
        try:
            return json.loads(text) if text else None
        except (ValueError, RecursionError):
            what = f"{self.url} answers, but not in JSON"
            raise PackError.at(self.words.option, 1, what, self.words.no_json) from None

    def content(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        *,
        kind: str = "application/json",
        again: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """What the server answers. ``path`` begins with a slash and is encoded for a URL; a mapping is sent
        as JSON, bytes as they are, of the media type ``kind``.

        ``again``: whether it may be repeated where no answer came or the server says "later"; by default GET
        and PUT may. Raises `Refused`, or `Unanswered` where there is no answer.
        """
        repeatable = method in ("GET", "PUT") if again is None else again
        for wait in (*WAITS, None):
            try:
                return self._once(method, path, body, kind, headers or {})
            except _Later as later:
                if not repeatable or wait is None or (later.after or 0) > LONGEST_WAIT:
                    raise later.error from None
                time.sleep(wait if later.after is None else later.after)
        raise AssertionError("unreachable")

    def hidden(self, text: str) -> str:
        """The text without what must not be told."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _once(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | None,
        kind: str,
        more: Mapping[str, str],
    ) -> bytes:
        headers = {**self._headers, **more}
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = kind
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        option = self.words.option
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                text: bytes = response.read(_ANSWER_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                refused = self._refused(error)
                if error.code in _LATER:
                    raise _Later(refused, _seconds(error.headers.get("Retry-After"))) from None
            raise refused from None
        except (OSError, http.client.HTTPException) as error:
            lost = _was_sent(error)
            unanswered = Unanswered(option, self.url, self.hidden(_why(error)), self._todo(error), lost)
            if lost:
                raise _Later(unanswered, None) from None
            raise unanswered from None
        if len(text) > _ANSWER_BYTES:
            raise PackError.at(option, 1, f"{self.url} answers with more than 64 MB", self.words.no_json)
        return text

    def _refused(self, error: urllib.error.HTTPError) -> Refused:
        try:
            answer = error.read(1_000_000)
        except (OSError, http.client.HTTPException):
            answer = b""
        try:
            if self._reason is None:
                raise ValueError
            said = self._reason(answer)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            said = answer.decode(errors="replace")[:_SHOWN] or str(error.reason)
        hint = self.words.hints.get(error.code, self.words.log)
        return Refused(self.words.option, self.url, error.code, self.hidden(said), hint, answer)

    def _todo(self, error: BaseException) -> str:
        inner = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(inner, ssl.SSLCertVerificationError):
            return "name your CA's certificate with --ca-file"
        return self.words.runs


class _Later(Exception):
    """What may be asked again, after so many seconds where the server says so."""

    def __init__(self, error: PackError, after: float | None) -> None:
        super().__init__()
        self.error, self.after = error, after


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def verified(ca_file: Path | None) -> ssl.SSLContext:
    """A context that verifies certificates, by the system's authorities or by those of a file in PEM."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise PackError.at(
            ca_file or "--ca-file", 1, "holds no certificate in PEM", "name the CA's"
        ) from error
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise PackError.at(ca_file or "--ca-file", 1, what, "name the CA's certificate in PEM") from error


def _seconds(after: str | None) -> float | None:
    """Retry-After, which is a number of seconds or a date."""
    if after is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", after.strip()):
        return float(after)
    try:
        until = email.utils.parsedate_to_datetime(after)
    except (ValueError, TypeError):
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _was_sent(error: BaseException) -> bool:
    """Whether the request may have reached the server: no answer came in time, or the connection broke."""
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    return isinstance(
        inner, TimeoutError | ConnectionResetError | BrokenPipeError | http.client.HTTPException
    )


def _why(error: BaseException) -> str:
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({inner.verify_message})"
    if isinstance(inner, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:g} seconds"
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return str(inner) or type(inner).__name__
