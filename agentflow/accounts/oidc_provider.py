"""Speaks to the OpenID Connect provider that the settings name. Knows no user and no database.

Authorisation code with PKCE: the browser brings a code, which is exchanged here for an ID token. The token counts if
the provider's present keys have signed it, for us, for this attempt, and lately. The provider's addresses and keys are
kept for a while; an unknown key is looked for anew.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from agentflow import forking
from agentflow.clock import monotonic
from agentflow.errors import Busy, Conflict, Unauthenticated
from agentflow.settings import settings

CALLBACK: Final = "/api/v1/sessions/oidc/callback"
"""The path to which the provider sends browsers back."""

_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Of signatures by a provider's private key. None that a shared secret could make."""

_TIMEOUT: Final = 10.0  # seconds of one request to the provider
_KEPT: Final = 3600.0  # seconds that its addresses and keys are kept
_KEPT_AT_LEAST: Final = 10.0  # seconds before an unknown key makes us ask anew
_LEEWAY: Final = 60  # seconds by which its clock and ours may differ
_LONGEST_REPLY: Final = 1_000_000  # bytes
_LONGEST_SUBJECT: Final = 255  # characters, as the standard says
_LONGEST_NAME: Final = 200
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a sign-in at the provider is bound to.

    Attributes:
        state: comes back with the browser, which alone has it in a cookie.
        nonce: comes back in the token.
        verifier: whose digest the provider got; only who has it can use the code.
        page: the path to show afterwards; None: none.
    """

    state: str
    nonce: str
    verifier: str
    page: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """Somebody as the provider knows them; `name` is for people."""

    issuer: str
    subject: str
    name: str


def new_attempt(page: str | None) -> Attempt:
    """An attempt that nobody can guess."""
    return Attempt(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(32), page)


class Provider:
    """The provider of the settings.

    Raises:
        Conflict: they name none.
    """

    def __init__(self) -> None:
        ours = settings()
        if ours.oidc_issuer is None or ours.oidc_client_id is None or ours.oidc_client_secret is None:
            raise Conflict("nobody can sign in through OpenID Connect here: it is not configured")
        self.issuer = ours.oidc_issuer
        self._client_id = ours.oidc_client_id
        self._secret = ours.oidc_client_secret.get_secret_value()
        self._redirect_uri = f"{ours.public_url}{CALLBACK}"

    def address(self, attempt: Attempt) -> str:
        """Where to send the browser.

        Raises:
            Busy: the provider does not answer as it should.
        """
        address: str = prepare_grant_uri(
            _facts(self.issuer)["authorization_endpoint"],
            self._client_id,
            "code",
            redirect_uri=self._redirect_uri,
            scope="openid profile",
            state=attempt.state,
            nonce=attempt.nonce,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
        )
        return address

    def known(self, attempt: Attempt, code: str) -> Known:
        """Who has signed in there.

        Raises:
            Unauthenticated: the provider does not take the code, or what it sends is not valid.
            Busy: it does not answer as it should.
        """
        token = self._token(attempt, code)
        claims = self._claims(token, attempt)
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
            raise Unauthenticated("what the OpenID Connect provider sent names nobody")
        return Known(self.issuer, subject, _name_in(claims) or "member")

    def _token(self, attempt: Attempt, code: str) -> Mapping[str, Any]:
        asked = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": attempt.verifier,
        }
        endpoint = _facts(self.issuer)["token_endpoint"]
        status, content = _ask("POST", endpoint, data=asked, auth=(self._client_id, self._secret))
        if 400 <= status < 500:
            raise Unauthenticated(f"the OpenID Connect provider refuses the sign-in: {shown(content.get('error'))}")
        if status != 200 or not isinstance(content.get("id_token"), str):
            raise _unusable("its reply has no ID token")
        return content

    def _claims(self, token: Mapping[str, Any], attempt: Attempt) -> Mapping[str, Any]:
        try:
            decoded = self._decoded(token["id_token"])
            options = {
                "iss": {"essential": True, "value": self.issuer},
                "aud": {"essential": True, "value": self._client_id},
                "sub": {"essential": True},
                "nonce": {"essential": True},
            }
            params = {
                "nonce": attempt.nonce,
                "client_id": self._client_id,
                "access_token": token.get("access_token"),
            }
            claims: CodeIDToken = CodeIDToken(decoded.claims, decoded.header, options, params)
            claims.validate(leeway=_LEEWAY)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            why = shown(str(error) if isinstance(error, JoseError) else type(error).__name__)
            raise Unauthenticated(f"what the OpenID Connect provider sent is not valid: {why}") from None
        return dict(claims)

    def _decoded(self, token: str) -> jwt.Token:
        try:
            return jwt.decode(token, _keys(self.issuer), algorithms=_ALGORITHMS)
        except (JoseError, ValueError):
            if not _forget(self.issuer):  # perhaps it signs with a new key
                raise
        return jwt.decode(token, _keys(self.issuer), algorithms=_ALGORITHMS)


_lock: Final = forking.lock()
_kept: Final[dict[str, tuple[float, dict[str, Any]]]] = {}  # address → when it was asked, and what it said


def _facts(issuer: str) -> dict[str, Any]:
    """What the provider says about itself.

    Raises:
        Busy: it does not answer as it should.
    """
    facts = _kept_reply(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    if facts.get("issuer") != issuer:
        raise _unusable("it calls itself by another name than AGENTFLOW_OIDC_ISSUER")
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        if not isinstance(facts.get(name), str) or not _is_safe(facts[name]):
            raise _unusable(f"its {name} is no https address")
    return facts


def _keys(issuer: str) -> KeySet:
    content = _kept_reply(_facts(issuer)["jwks_uri"])
    usable = [key for key in content.get("keys", ()) if isinstance(key, dict) and key.get("use", "sig") == "sig"]
    return KeySet.import_key_set({"keys": usable})


def _forget(issuer: str) -> bool:
    """Forget the provider's keys, unless they were asked for only now; returns whether they were forgotten."""
    address = _facts(issuer)["jwks_uri"]
    with _lock:
        asked_at, _ = _kept.get(address, (0.0, {}))
        if monotonic() - asked_at < _KEPT_AT_LEAST:
            return False
        _kept.pop(address, None)
        return True


def _kept_reply(address: str) -> dict[str, Any]:
    with _lock:
        asked_at, content = _kept.get(address, (0.0, {}))
    if content and monotonic() - asked_at < _KEPT:
        return content
    if not _is_safe(address):
        raise _unusable("its address is not https")
    status, content = _ask("GET", address)
    if status != 200 or not content:
        raise _unusable(f"it answers {status}")
    with _lock:
        _kept[address] = (monotonic(), content)
    return content


def _ask(method: str, address: str, **more: Any) -> tuple[int, dict[str, Any]]:
    """A reply's status and its JSON object; {}: it has none."""
    try:
        with (
            httpx.Client(timeout=_TIMEOUT, trust_env=urlsplit(address).hostname not in _LOOPBACK) as client,
            client.stream(method, address, headers={"Accept": "application/json"}, **more) as reply,
        ):
            body = bytearray()
            for part in reply.iter_bytes():
                body += part
                if len(body) > _LONGEST_REPLY:
                    raise _unusable("its reply is too long")
            whole = httpx.Response(reply.status_code, content=bytes(body))
        content = whole.json() if body else {}
    except (httpx.HTTPError, httpx.InvalidURL):
        raise _unusable("it cannot be reached") from None
    except (ValueError, RecursionError):
        content = {}
    return whole.status_code, content if isinstance(content, dict) else {}


def _is_safe(address: str) -> bool:
    """Whether nobody on the way can read and change what is sent: TLS, or this machine."""
    parts = urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def _unusable(why: str) -> Busy:
    return Busy(f"the OpenID Connect provider does not answer as it should ({why}); try again")


def _name_in(claims: Mapping[str, Any]) -> str:
    for claim in ("name", "preferred_username", "email"):
        if isinstance(claims.get(claim), str) and (name := shown(claims[claim])):
            return name
    return ""


def shown(text: object) -> str:
    """What the provider says for people, on one line, cut."""
    return "".join(letter for letter in str(text) if letter.isprintable())[:_LONGEST_NAME].strip()
