"""A service answered a block's request: did it work, may it work later, or is the request at fault?

For blocks that ask one kind of service and want its answer only. Messages name the service and the status; the body of
a failure is a stranger's text, and stays out of them.
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

_MAY_PASS: Final = frozenset({408, 425, 429})
"""Statuses below 500 that say: not now."""


async def ask(service: str, url: str, headers: dict[str, str] | None = None, *, missing: str = "") -> Reply:
    """What `service` answers to a GET of `url`, through the guard and within the limits of the settings.

    Args:
        service: what it is, for messages.
        url: http or https.
        headers: sent along.
        missing: what a 404 means here; "": nothing in particular.

    Raises:
        BadInput: the service refuses this request, or its address is wrong or not public.
        Transient: it cannot be reached, is busy or broken.
    """
    reply = await fetch("GET", url, headers or {}, Body(), Limits.from_settings())
    if 200 <= reply.status < 300:
        return reply
    if reply.status == 404 and missing:
        raise BadInput(missing)
    raise refusal(service, reply)


def refusal(service: str, reply: Reply) -> BadInput | Transient:
    """What a reply with a failed status comes to: may the same request work later, or not?"""
    if reply.status in _MAY_PASS or reply.status >= 500:
        return Transient(f"{service} cannot answer now (status {reply.status})", after=retry_after(reply.headers))
    if reply.status in (401, 402, 403):
        return BadInput(f"{service} does not let this request in (status {reply.status})")
    return BadInput(f"{service} refuses this request (status {reply.status})")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds for which a reply asks to be left alone (Retry-After: a number, or a time); None: it does not say."""
    wanted = headers.get("retry-after", "").strip()
    try:
        seconds = float(wanted)
    except ValueError:
        seconds = _until(wanted)
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _until(moment: str) -> float:
    """Seconds until a time as HTTP writes it; NaN where it is none."""
    try:
        until = parsedate_to_datetime(moment)
    except ValueError:
        return math.nan
    return ((until if until.tzinfo else until.replace(tzinfo=UTC)) - now()).total_seconds()


def json_of(service: str, reply: Reply) -> Any:
    """The JSON value in `reply`.

    Raises:
        Transient: it is none: something stands between us and the service.
    """
    try:
        return json_value(reply.text)
    except (ValueError, RecursionError):
        raise Transient(f"{service} answered with something that is not JSON") from None
