"""Lets a reply wait for the end of a run, in one of the places that waiting requests have (`places.py`)."""

from uuid import UUID

from flask import current_app, request

from agentflow.api.places import Places, client_gone, closing
from agentflow.errors import Busy, TooMany
from agentflow.services import waiting
from agentflow.services.transaction import carry_out


def ended_within(owner_id: UUID, run_id: UUID, seconds: float) -> bool:
    """Whether a run ends within `seconds`. Where no place is free, nobody waits, and the answer is no."""
    places: Places = current_app.extensions["block_waits"]
    try:
        places.take(owner_id)
    except (Busy, TooMany):
        return False
    gone = client_gone()
    try:
        return carry_out(waiting.until_ended(run_id, seconds, lambda pause: closing.wait(pause) or gone()))
    finally:
        places.release(owner_id)


def preferred_seconds(most: float) -> float | None:
    """How long this request prefers to wait (`Prefer: wait=…` of RFC 7240), `most` at most; None: it does not say."""
    for part in ",".join(request.headers.getlist("Prefer")).split(","):
        name, _, value = part.partition(";")[0].strip().partition("=")
        value = value.strip().strip('"')
        if name.strip().lower() == "wait" and value.isascii() and value.isdigit():
            return min(float(value), most)
        if name.strip().lower() == "respond-async":
            return 0.0
    return None
