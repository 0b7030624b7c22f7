"""What senders of webhooks deliver: payloads of their shapes, signed by the schemes that they publish."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from standardwebhooks import Webhook

STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECRET = "it's a secret to everybody"


@dataclass(frozen=True)
class Sent:
    """One delivery as it goes over the wire."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def having(self, **headers: str) -> "Sent":
        """The same with other headers; `_` stands for `-`."""
        return replace(self, headers={**self.headers, **{k.replace("_", "-"): v for k, v in headers.items()}})


def _hmac(secret: str, signed: bytes) -> str:
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def standard(
    payload: Any = None, *, id: str | None = None, at: float = 0, secret: str = STANDARD_SECRET, body: bytes = b""
) -> Sent:
    """As the library of Standard Webhooks signs it."""
    content = {"type": "invoice.paid", "timestamp": "2026-11-28T15:00:00Z", "data": {"id": "in_1", "total": 1200}}
    body = body or json.dumps(content if payload is None else payload).encode()
    moment = datetime.fromtimestamp(int(time.time() + at), UTC)
    id = id or f"msg_{uuid4().hex}"
    return Sent(
        body,
        {
            "Content-Type": "application/json",
            "webhook-id": id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": Webhook(secret).sign(id, moment, body.decode()),
        },
    )


def github(
    payload: Any = None, *, id: str | None = None, event: str = "issues", secret: str = SECRET, form: bool = False
) -> Sent:
    """As docs.github.com says: "Validating webhook deliveries"."""
    content = {
        "action": "opened",
        "issue": {"number": 7, "title": "Spelling error", "labels": [{"name": "bug"}], "user": {"login": "octocat"}},
        "repository": {"id": 1296269, "full_name": "octocat/Hello-World", "private": False},
        "sender": {"login": "octocat", "id": 1},
    }
    body = json.dumps(content if payload is None else payload).encode()
    if form:
        body = urlencode({"payload": body.decode()}).encode()
    return Sent(
        body,
        {
            "Content-Type": "application/x-www-form-urlencoded" if form else "application/json",
            "User-Agent": "GitHub-Hookshot/044aadd",
            "X-GitHub-Delivery": id or str(uuid4()),
            "X-GitHub-Event": event,
            "X-GitHub-Hook-ID": "292430182",
            "X-Hub-Signature": "sha1=7d38cdd689735b008b3c702edd92eea23791c5f6",
            "X-Hub-Signature-256": f"sha256={_hmac(secret, body)}",
        },
    )


def stripe(payload: Any = None, *, id: str | None = None, at: float = 0, secret: str = SECRET) -> Sent:
    """As docs.stripe.com says: "Verify webhook signatures manually"."""
    content = {
        "id": id or f"evt_{uuid4().hex}",
        "object": "event",
        "api_version": "2026-01-28",
        "created": 1764342000,
        "data": {"object": {"id": "ch_1", "object": "charge", "amount": 2000, "currency": "eur", "paid": True}},
        "livemode": False,
        "type": "charge.succeeded",
    }
    body = json.dumps(content if payload is None else payload, indent=2).encode()
    moment = int(time.time() + at)
    signature = f"t={moment},v1={_hmac(secret, f'{moment}.'.encode() + body)}"
    return Sent(body, {"Content-Type": "application/json; charset=utf-8", "Stripe-Signature": signature})


def slack(
    payload: Any = None, *, id: str | None = None, at: float = 0, secret: str = SECRET, form: str | None = None
) -> Sent:
    """As docs.slack.dev says: "Verifying requests from Slack". `form`: the body of a slash command."""
    content = {
        "token": "XXYYZZ",
        "team_id": "T123ABC456",
        "api_app_id": "A123ABC456",
        "event": {"type": "app_mention", "user": "U123ABC456", "text": "approve 4711", "ts": "1515449522.000016"},
        "type": "event_callback",
        "event_id": id or f"Ev{uuid4().hex}",
        "event_time": 1515449522000016,
    }
    body = form.encode() if form is not None else json.dumps(content if payload is None else payload).encode()
    moment = int(time.time() + at)
    return Sent(
        body,
        {
            "Content-Type": "application/json" if form is None else "application/x-www-form-urlencoded",
            "X-Slack-Request-Timestamp": str(moment),
            "X-Slack-Signature": f"v0={_hmac(secret, f'v0:{moment}:'.encode() + body)}",
        },
    )


SENDERS: dict[str, Callable[..., Sent]] = {"standard": standard, "github": github, "stripe": stripe, "slack": slack}
SECRETS = {"standard": STANDARD_SECRET, "github": SECRET, "stripe": SECRET, "slack": SECRET}
TIMED = ("standard", "stripe", "slack")
SIGNED_HEADERS = {
    "standard": ("webhook-id", "webhook-timestamp", "webhook-signature"),
    "github": ("X-Hub-Signature-256",),
    "stripe": ("Stripe-Signature",),
    "slack": ("X-Slack-Request-Timestamp", "X-Slack-Signature"),
}
"""The headers that no one may alter. GitHub signs the body only: its id and event are not among them."""
