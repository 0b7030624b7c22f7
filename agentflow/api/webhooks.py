"""Verifies the signatures of webhooks that other systems send, as Standard Webhooks define them (standardwebhooks.com).

The signature is the HMAC-SHA256, in base64, of `<webhook-id>.<webhook-timestamp>.<body>`; the header may hold several,
so that keys can be changed.
"""

import base64
import hashlib
import hmac
from typing import Final

from pydantic import SecretStr
from werkzeug.datastructures import Headers

from agentflow.clock import now
from agentflow.errors import Unauthenticated
from agentflow.settings import signing_key

TOLERANCE: Final = 300
"""Seconds that a delivery may be old, or ahead of this host's clock."""

_MOST_SIGNATURES: Final = 20


def sign(secret: SecretStr, delivery: str, timestamp: str, body: bytes) -> str:
    """The signature of a delivery, as it stands in `webhook-signature`."""
    mac = hmac.new(signing_key(secret), f"{delivery}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(mac.digest()).decode()}"


def verify(headers: Headers, body: bytes, secret: SecretStr) -> None:
    """Raise unless the delivery is signed with `secret`, and is no older than `TOLERANCE`.

    Raises:
        Unauthenticated: it is not.
    """
    delivery = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not delivery or not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 20):
        raise Unauthenticated("this must be signed: webhook-id, webhook-timestamp and webhook-signature")
    if abs(now().timestamp() - int(timestamp)) > TOLERANCE:
        raise Unauthenticated(f"webhook-timestamp is more than {TOLERANCE} s away from this host's clock")
    expected = sign(secret, delivery, timestamp, body).encode()
    given = headers.get("webhook-signature", "").encode().split(b" ")[:_MOST_SIGNATURES]
    if not any(hmac.compare_digest(expected, one) for one in given):
        raise Unauthenticated("webhook-signature does not fit what was sent")
