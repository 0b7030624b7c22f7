"""Signs webhooks, as Standard Webhooks define it (standardwebhooks.com)."""

import base64
import hashlib
import hmac

from pydantic import SecretStr

from agentflow.settings import signing_key


def sign(secret: SecretStr, delivery: str, timestamp: str, body: bytes) -> str:
    """The signature of a delivery, as it stands in `webhook-signature`."""
    mac = hmac.new(signing_key(secret), f"{delivery}.{timestamp}.".encode(errors="replace") + body, hashlib.sha256)
    return f"v1,{base64.b64encode(mac.digest()).decode()}"
