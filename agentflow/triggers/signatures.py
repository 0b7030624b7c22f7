"""Verifies the signatures of webhooks that other systems send, by the scheme of each.

    standard   webhook-signature: v1,<base64>           of  <webhook-id>.<webhook-timestamp>.<body>  (or svix-id, …)
    github     X-Hub-Signature-256: sha256=<hex>        of  <body>
    stripe     Stripe-Signature: t=<time>,v1=<hex>      of  <time>.<body>
    slack      X-Slack-Signature: v0=<hex>              of  v0:<X-Slack-Request-Timestamp>:<body>

All are HMAC-SHA256 of the body as it was sent. Times are Unix seconds, and may be `TOLERANCE` off. (Sources:
standardwebhooks.com, docs.github.com, docs.stripe.com, docs.slack.dev.) Signatures are compared as texts, in constant
time: of the several texts that mean the same bytes only the usual one is taken. (The library `standardwebhooks` takes
the others, too, and no body that is not UTF-8.) Senders that use Svix call the headers of `standard` svix-….
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final

from pydantic import SecretStr

from agentflow.clock import now
from agentflow.errors import Unauthenticated
from agentflow.net.signing import sign
from agentflow.settings import signing_key

TOLERANCE: Final = 300
"""Seconds that a delivery may be old, or ahead of this host's clock."""

_MOST_SIGNATURES: Final = 20

_LONGEST_TIME: Final = 19  # digits


class Scheme(StrEnum):
    """How the sender of a webhook signs it."""

    STANDARD = "standard"
    GITHUB = "github"
    STRIPE = "stripe"
    SLACK = "slack"
    NONE = "none"  # not at all


HEADERS: Final[Mapping[Scheme, tuple[str, ...]]] = {
    Scheme.STANDARD: ("webhook-id", "webhook-timestamp", "webhook-signature"),
    Scheme.GITHUB: ("X-Hub-Signature-256",),
    Scheme.STRIPE: ("Stripe-Signature",),
    Scheme.SLACK: ("X-Slack-Request-Timestamp", "X-Slack-Signature"),
    Scheme.NONE: (),
}
"""The headers that a scheme needs."""

_SVIX: Final = ("svix-id", "svix-timestamp", "svix-signature")
"""Those of the scheme `standard` as Svix calls them."""

Headers = Mapping[str, str]
"""Headers of a request; the names count in any case."""


def check_secret(scheme: Scheme, secret: SecretStr) -> None:
    """Refuse a secret that the scheme cannot sign with.

    Raises:
        ValueError: it is one; the message does not repeat it.
    """
    if scheme is Scheme.NONE:
        raise ValueError("the scheme `none` has no secret")
    if scheme is Scheme.STANDARD:
        signing_key(secret)


def verify(scheme: Scheme, headers: Headers, body: bytes, secrets: Sequence[SecretStr]) -> None:
    """Raise unless the delivery is signed with one of `secrets`, and its time, if the scheme has one, is about now.

    Raises:
        Unauthenticated: it is not. The message says which header is wrong, and quotes nothing.
    """
    wanted = _SVIX if scheme is Scheme.STANDARD and _uses_svix(headers) else HEADERS[scheme]
    missing = [name for name in wanted if not headers.get(name)]
    if missing:
        raise Unauthenticated(f"this must be signed: {', '.join(missing)} is missing")
    if scheme is Scheme.STANDARD:
        _verify_standard(wanted, headers, body, secrets)
    elif scheme is Scheme.GITHUB:
        _compare("X-Hub-Signature-256", [headers["X-Hub-Signature-256"]], _hex("sha256=", b"", body, secrets))
    elif scheme is Scheme.STRIPE:
        _verify_stripe(headers["Stripe-Signature"], body, secrets)
    elif scheme is Scheme.SLACK:
        time = _recent("X-Slack-Request-Timestamp", headers["X-Slack-Request-Timestamp"])
        expected = _hex("v0=", f"v0:{time}:".encode(), body, secrets)
        _compare("X-Slack-Signature", [headers["X-Slack-Signature"]], expected)


def _uses_svix(headers: Headers) -> bool:
    """Whether a delivery of the scheme `standard` has its headers by the names of Svix, and no id by the usual one."""
    return "webhook-id" not in headers and _SVIX[0] in headers


def _verify_standard(names: Sequence[str], headers: Headers, body: bytes, secrets: Iterable[SecretStr]) -> None:
    delivery, timestamp, signature = names
    time = _recent(timestamp, headers[timestamp])
    expected = [sign(secret, headers[delivery], time, body) for secret in secrets]
    _compare(signature, headers[signature].split(" "), expected)


def _verify_stripe(header: str, body: bytes, secrets: Iterable[SecretStr]) -> None:
    parts = [part.partition("=") for part in header.split(",")[: _MOST_SIGNATURES + 1]]
    times = [value for name, _, value in parts if name == "t"]
    if len(times) != 1:
        raise Unauthenticated("Stripe-Signature has no time, or several")
    time = _recent("the time in Stripe-Signature", times[0])
    given = [value for name, _, value in parts if name == "v1"]
    _compare("Stripe-Signature", given, _hex("", f"{time}.".encode(), body, secrets))


def _hex(before: str, head: bytes, body: bytes, secrets: Iterable[SecretStr]) -> list[str]:
    """The signatures of `head` and `body` in hexadecimal, one by each secret, with `before` in front."""
    keys = [secret.get_secret_value().encode() for secret in secrets]
    return [before + hmac.new(key, head + body, hashlib.sha256).hexdigest() for key in keys]


def _recent(what: str, text: str) -> str:
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_TIME):
        raise Unauthenticated(f"{what} is no time in Unix seconds")
    if abs(now().timestamp() - int(text)) > TOLERANCE:
        raise Unauthenticated(f"{what} is more than {TOLERANCE} s away from this host's clock")
    return text


def _compare(header: str, given: Sequence[str], expected: Iterable[str]) -> None:
    offered = [one.encode(errors="replace") for one in given[:_MOST_SIGNATURES]]
    # Each with each, and none left out: the time that it takes does not tell which one was nearly right.
    fits = [hmac.compare_digest(wanted.encode(), one) for wanted in expected for one in offered]
    if not any(fits):
        raise Unauthenticated(f"{header} does not fit what was sent")
