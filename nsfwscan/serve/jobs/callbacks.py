"""Telling another program that a job has ended: off unless the operator names hosts.

In: a job that has ended and the address that came with it. Out: one signed POST of its status, to
a host that is allowed. No redirect is followed, no proxy is used, no picture or result is sent.
The receiver computes HMAC-SHA256 over `TIMESTAMP.BODY` with the shared secret and compares it with
`X-Nsfwscan-Signature`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import json
import logging
import re
import time
import urllib.parse
from typing import TYPE_CHECKING

from nsfwscan.serve.problems import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nsfwscan.serve.jobs.settings import JobSettings
    from nsfwscan.serve.jobs.states import Callback
    from nsfwscan.serve.jobs.store import JobStore
    from nsfwscan.system.json_lines import Json

_LOG = logging.getLogger("nsfwscan.serve")
_TIMEOUT_S = 10.0
_PAUSES_S = (60.0, 300.0, 1800.0, 7200.0)
"""How long to wait after each try that failed; then it is given up."""
_URL = re.compile(r"[!-~]{1,2000}\Z")
"""Anything else could be read differently by whoever parses it next."""
_PORTS = {"http": 80, "https": 443}


def allowed_callback(url: str, settings: JobSettings) -> str:
    """Return a callback's address if it is allowed. Raises `RequestRefused`: 400 or 403."""
    if not settings.callback_hosts:
        raise RequestRefused(403, "callbacks-off", "this server sends no callbacks")
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        parts, host, port = urllib.parse.urlsplit(""), "", 0
    if not host or not port or parts.scheme not in _PORTS or not _URL.match(url):
        raise RequestRefused(400, "bad-callback", "callback must be an http or https address")
    if parts.username is not None or parts.fragment:
        raise RequestRefused(400, "bad-callback", "callback must not have a user or a fragment")
    named = host if ":" not in host else f"[{host}]"
    usual = {named} if port == _PORTS[parts.scheme] else set()
    if not ({f"{named}:{port}"} | usual) & settings.callback_hosts:
        raise RequestRefused(403, "callback-not-allowed", f"{named}:{port} may not be called")
    return url


async def call_back(store: JobStore, due: Callback, settings: JobSettings) -> None:
    """Tell about one job, and note whether to try again. Raises `JobFileError`."""
    again_in_s: float | None = None
    problem = ""
    try:
        allowed_callback(due.url, settings)  # the settings may have changed since
        status = await asyncio.to_thread(store.status, due.job)
        problem = await asyncio.to_thread(
            _post, due.url, status.record(settings.keep_s), settings.callback_secret
        )
    except RequestRefused as error:
        problem = str(error)
    else:
        if problem and due.tries < len(_PAUSES_S):
            again_in_s = _PAUSES_S[due.tries]
    if problem:
        then = "given up" if again_in_s is None else f"again in {again_in_s:.0f} s"
        _LOG.warning("the callback of job %s failed: %s; %s", due.job, problem, then)
    await asyncio.to_thread(store.called, due.job, again_in_s)


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return what a receiver must compute to believe a callback."""
    return (
        "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    )


def _post(url: str, status: Mapping[str, Json], secret: bytes) -> str:
    """Send a status; return what went wrong, empty if nothing."""
    parts = urllib.parse.urlsplit(url)
    body = json.dumps(status, allow_nan=False).encode()
    timestamp = str(int(time.time()))
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = make(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    try:
        connection.request(
            "POST",
            urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, "")),
            body,
            {
                "Content-Type": "application/json",
                "X-Nsfwscan-Timestamp": timestamp,
                "X-Nsfwscan-Signature": signature(secret, timestamp, body),
            },
        )
        code = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return "" if 200 <= code < 300 else f"the receiver answered {code}"
