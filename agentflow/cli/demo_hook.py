"""Plays the parts that a hooked exhibit of the demo needs: the shop that calls a webhook, and the person who approves.

The shop's request waits for the run's end. Meanwhile the person finds the review of that run, and approves it.
"""

import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from time import sleep
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
from pydantic import SecretStr

from agentflow.client import Client
from agentflow.clock import monotonic, now
from agentflow.errors import Unavailable
from agentflow.net.signing import sign
from agentflow.triggers.schemas import MAX_WAIT, HookAnswer

_SECONDS: Final = 60.0
_ASKED_EVERY: Final = 0.1  # seconds


def deliver_and_approve(client: Client, graph_id: UUID, payload: Mapping[str, Any], message: str) -> HookAnswer:
    """Make a trigger of a graph, call its webhook with a payload, approve what its run asks for, and give the answer.

    Raises:
        Unavailable: nothing asks for an approval.
    """
    made = client.triggers.create("demo", graph_id=graph_id, wait=MAX_WAIT)
    assert made.url is not None and made.secret is not None, "a new trigger has both"  # noqa: PT018
    with ThreadPoolExecutor(1, "shop") as shop:
        reply = shop.submit(_deliver, made.url, made.secret, payload)
        client.approve(_review(client, graph_id, reply), message)
        return reply.result(_SECONDS)


def _deliver(url: str, secret: str, payload: Mapping[str, Any]) -> HookAnswer:
    """What the shop does: sign the payload as Standard Webhooks say, and send it."""
    body, delivery, moment = json.dumps(dict(payload)).encode(), f"msg_{uuid4().hex}", str(int(now().timestamp()))
    headers = {
        "Content-Type": "application/json",
        "webhook-id": delivery,
        "webhook-timestamp": moment,
        "webhook-signature": sign(SecretStr(secret), delivery, moment, body),
    }
    with httpx.Client(trust_env=False, timeout=_SECONDS) as client:  # no proxy to our own machine
        reply = client.post(url, content=body, headers=headers)
    reply.raise_for_status()
    return HookAnswer.model_validate(reply.json())


def _review(client: Client, graph_id: UUID, reply: Future[HookAnswer]) -> UUID:
    """The review that a run of the graph waits for. `reply`: what the webhook answers; it ends the wait if it fails."""
    give_up_at = monotonic() + _SECONDS
    while monotonic() < give_up_at:
        found = next((review.id for review in client.reviews() if review.graph_id == graph_id), None)
        if found is not None:
            return found
        if reply.done():
            reply.result()
        sleep(_ASKED_EVERY)
    raise Unavailable(f"no run asks for an approval within {_SECONDS:.0f} s")
