"""Checks that credentials of OAuth2 have the scopes that a pin needs (`credentials_scopes` in its schema)."""

from collections.abc import Iterable, Sequence

from agentflow.credentials.kinds import Kind
from agentflow.credentials.oauth2_providers import WELL_KNOWN
from agentflow.credentials.tables import StoredCredential
from agentflow.errors import BadInput
from agentflow.graph.catalogue import PinSpec, takes_credential
from agentflow.settings import settings


def lacking(pin: PinSpec, one: StoredCredential) -> list[str]:
    """The scopes that the pin needs and the credential lacks. Only credentials of OAuth2 have any."""
    if one.kind != Kind.OAUTH2:
        return []
    needed = [str(scope) for scope in pin.schema.get("credentials_scopes") or ()]
    granted = _contained(one.provider, {str(scope) for scope in one.details.get("scopes") or ()}) if needed else set()
    return [scope for scope in needed if scope not in granted]


def refuse_narrow(pin: PinSpec, one: StoredCredential) -> None:
    """See to it that a credential has the scopes that the pin needs.

    Raises:
        BadInput: it lacks some.
    """
    if missing := lacking(pin, one):
        raise BadInput(
            f"the credential {one.title!r} lacks the scope{'s' if len(missing) > 1 else ''} {', '.join(missing)}: "
            "authorise it again with them"
        )


def wide_enough(pins: Iterable[PinSpec], found: Sequence[StoredCredential]) -> list[StoredCredential]:
    """Those of the credentials that have the scopes that one of the pins needs.

    Raises:
        BadInput: there are credentials, and all lack some.
    """
    pins = list(pins)
    wide = [one for one in found if any(_takes(pin, one) and not lacking(pin, one) for pin in pins)]
    if found and not wide:
        for pin in pins:
            if _takes(pin, found[0]):
                refuse_narrow(pin, found[0])
    return wide


def _takes(pin: PinSpec, one: StoredCredential) -> bool:
    return takes_credential(pin, one.provider, one.kind)


def _contained(provider: str, granted: set[str]) -> set[str]:
    """The scopes that are granted with these, themselves among them."""
    known = settings().oauth_providers.get(provider)
    implied = known.implied_scopes if known is not None else WELL_KNOWN.get(provider, {}).get("implied_scopes", {})
    found, ahead = set[str](), list(granted)
    while ahead:
        if (scope := ahead.pop()) not in found:
            found.add(scope)
            ahead += implied.get(scope, ())
    return found
