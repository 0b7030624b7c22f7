"""Verifies that the server at an address is the API of this folder's stack, before anybody sends it a key.

`agentflow up` makes a secret at each start, gives it to its API and stores it for its owner. A client sends a random
challenge; only the stack's API can answer it with the right HMAC. The secret itself is never sent.
"""

import hashlib
import hmac
import http.client
import secrets
from typing import Final
from urllib.parse import urlsplit

CHALLENGE: Final = "X-AgentFlow-Challenge"
PROOF: Final = "X-AgentFlow-Proof"
"""Headers of a request for `/healthz`, and of its reply."""

LONGEST: Final = 100
"""The longest challenge that is answered, in characters."""

_SECONDS: Final = 2.0  # timeout of a request


def new_secret() -> str:
    """The secret of one start of a stack."""
    return secrets.token_urlsafe(32)


def prove(secret: str, challenge: str) -> str:
    """The answer to a challenge: HMAC-SHA256, in hex."""
    return hmac.new(secret.encode(), challenge.encode(), hashlib.sha256).hexdigest()


def answers(url: str) -> bool:
    """Whether any web server answers there."""
    return _asked(url, "") is not None


def is_own(url: str, secret: str) -> bool:
    """Whether the server there is the API that has this secret."""
    challenge = secrets.token_hex(16)
    return hmac.compare_digest(_asked(url, challenge) or "", prove(secret, challenge))


def _asked(url: str, challenge: str) -> str | None:
    """The proof in the reply, in ASCII; empty if it has none; None if there is no reply."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_SECONDS)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/healthz", headers={CHALLENGE: challenge})
        response = connection.getresponse()
        response.read(1024)
        return ascii(response.getheader(PROOF) or "").strip("'")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
