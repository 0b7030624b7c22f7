"""Asks one service by HTTP GET and classifies failures: worth a retry (Transient), or the request's fault (BadInput).

For blocks that need only the service's answer. Messages name the service and the status, never the body of a failure:
that is text from a stranger.
"""

import math
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

from agentflow.clock import now
from agentflow.errors import BadInput, Transient
from agentflow.net.fetching import Body, Limits, Reply, fetch
from agentflow.texts import json_value

_WORTH_A_RETRY: Final = frozenset({408, 425, 429})
"""Statuses below 500 after which the same request may work later."""


async def ask(service: str, url: str, headers: dict[str, str] | None = None, *, missing: str = "") -> Reply:
    """The reply of `service` to a GET of `url`, through the guard and within the settings' limits.

    Args:
        service: the service's name, for messages.
        url: http or https.
        headers: headers to send.
        missing: the message for a 404; empty: no special meaning.

    Raises:
        BadInput: the service refuses this request, or its address is wrong or not public.
        Transient: the service cannot be reached, is busy or broken.
    """
    reply = await fetch("GET", url, headers or {}, Body(), Limits.from_settings())
    if 200 <= reply.status < 300:
        return reply
    if reply.status == 404 and missing:
        raise BadInput(missing)
    raise refusal(service, reply)


def refusal(service: str, reply: Reply) -> BadInput | Transient:
    """The error for a reply with a failed status: Transient if the same request may work later, else BadInput."""
    if reply.status in _WORTH_A_RETRY or reply.status >= 500:
        return Transient(f"{service} cannot answer now (status {reply.status})", after=retry_after(reply.headers))
    if reply.status in (401, 402, 403):
        return BadInput(f"{service} does not let this request in (status {reply.status})")
    return BadInput(f"{service} refuses this request (status {reply.status})")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from a reply's Retry-After (a number or a date); None if it gives none."""
    wanted = headers.get("retry-after", "").strip()
    try:
        seconds = float(wanted)
    except ValueError:
        seconds = _until(wanted)
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _until(moment: str) -> float:
    """Seconds until an HTTP date; NaN if it is not a date."""
    try:
        until = parsedate_to_datetime(moment)
    except ValueError:
        return math.nan
    return ((until if until.tzinfo else until.replace(tzinfo=UTC)) - now()).total_seconds()


def json_of(service: str, reply: Reply) -> Any:
    """The JSON value in `reply`.

    Raises:
        Transient: it is not JSON, so something stands between us and the service.
    """
    try:
        return json_value(reply.text)
    except (ValueError, RecursionError):
        raise Transient(f"{service} answered with something that is not JSON") from None
