"""Serves `/hooks/{token}`, which other systems call: with a token in the address, and signed."""

from collections.abc import Mapping

from flask import Response, current_app, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from agentflow.api import payloads, waiting
from agentflow.api.blueprint import name_of_the_view
from agentflow.api.rate import HookLimit
from agentflow.api.replies import reply
from agentflow.errors import ClientError, GraphInvalid, NotFound
from agentflow.services import run_views
from agentflow.services.transaction import carry_out, transaction
from agentflow.triggers import hooks, senders, signatures
from agentflow.triggers.hooks import Done, Hook
from agentflow.triggers.schemas import MAX_WAIT, HookAnswer
from agentflow.triggers.tables import Outcome

api = APIBlueprint(
    "hooks",
    __name__,
    abp_tags=[Tag(name="hooks", description="For other systems, which sign what they send.")],
    operation_id_callback=name_of_the_view,
)


class HookPath(BaseModel):
    """Which webhook."""

    token: str = Field(max_length=200)


@api.post("/hooks/<token>", responses={200: HookAnswer, 202: HookAnswer})
def receive_hook(path: HookPath) -> Response:
    """Deliver something to a trigger: JSON or a form, up to 1 MiB, signed as the trigger says.

    202 with what was done; 200 with the outputs of the run, if the answer was to wait for its end (as the trigger says,
    or `Prefer: wait=…` up to 30 seconds) and it came in time. The same delivery once more is answered with the first
    one's run. Slack's challenge is answered with 200.
    """
    source = request.remote_addr or "unknown"
    limit: HookLimit = current_app.extensions["hook_limit"]
    limit.take_address(source)
    with transaction() as session:
        hook = hooks.identify(session, path.token)
    limit.take_trigger(hook.id)
    headers: Mapping[str, str] = request.headers  # type: ignore[assignment]  # names count in any case
    signed = False
    try:
        signatures.verify(hook.scheme, headers, payloads.body_of(request), hook.secrets)
        signed = True
        payload = payloads.read(request, hook.terms.body)
        if (challenge := senders.challenge(hook.scheme, payload)) is not None:
            return reply(HookAnswer(outcome=Outcome.IGNORED, challenge=challenge))
        came = hooks.arrival(hook, headers, payload, source)
    except ClientError as error:
        with transaction() as session:
            hooks.reject(session, hook, source, error, signed=signed)
        raise
    try:
        done = carry_out(hooks.deliver(hook.id, came))
    except (GraphInvalid, NotFound) as error:
        # What the graph is made of is nothing for those who send: its owner reads it in the list of deliveries.
        raise type(error)("no run can begin here now; the owner of this webhook sees why") from None
    return _answer(hook, done)


def _answer(hook: Hook, done: Done) -> Response:
    answer = HookAnswer(outcome=done.outcome, delivery=done.delivery_id, run_id=done.run_id, reason=done.reason)
    if done.run_id is None:
        return reply(answer, 202)
    preferred = waiting.preferred_seconds(MAX_WAIT) if hook.wait != 0 else None
    seconds = preferred if preferred is not None else hook.wait or 0
    if not seconds or not waiting.ended_within(hook.owner_id, done.run_id, seconds):
        return reply(answer, 202)
    with transaction() as session:
        run = run_views.get(session, hook.owner_id, done.run_id)
    answer.status, answer.outputs, answer.error = run.status, run.outputs, run.error
    response = reply(answer)
    if preferred is not None:
        response.headers["Preference-Applied"] = f"wait={preferred:g}"
    return response
