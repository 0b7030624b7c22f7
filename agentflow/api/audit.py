"""Records every request that changes something in the audit log, with the change or, refused, by itself.

What only reads is not recorded, nor is a request without a valid key: anybody could fill the log with those.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from flask import Response, g, request
from sqlalchemy.orm import Session

from agentflow.accounts import audit
from agentflow.accounts.keys import Caller
from agentflow.accounts.store import Act
from agentflow.errors import AgentFlowError
from agentflow.logs import log_outage
from agentflow.services.transaction import transaction, witness

logger = logging.getLogger(__name__)

_CHANGING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_ONLY_READ: Final = frozenset({"validate_graph", "show_inputs", "estimate_graph"})
"""Operations that take a body and change nothing."""


def begin(caller: Caller, operation: str) -> None:
    """Have the first transaction of this request record it, if it changes something."""
    witness(None)
    if request.method not in _CHANGING or operation in _ONLY_READ:
        return
    target = next(iter((request.view_args or {}).values()), None)
    _expect(caller, operation, None if target is None else str(target))


def begin_return(caller: Caller, operation: str) -> None:
    """`begin`, for the return of a browser from a provider: a GET that changes something.

    Call it when its state is known to be the caller's: any page can make a browser send another.
    """
    _expect(caller, operation, None)


def _expect(caller: Caller, operation: str, target: str | None) -> None:
    source = request.remote_addr or "unknown"
    g.act = Act(caller.user_id, caller.key_id, caller.session_id, source, operation, target)
    witness(_record)


@contextmanager
def only_looking() -> Iterator[None]:
    """What is read in the body is not yet the change, and does not record it."""
    witness(None)
    yield
    if g.get("act") is not None:
        witness(_record)


def begin_signed(operation: str, target: object) -> None:
    """`begin`, for a webhook whose signature is valid: it comes from no user."""
    g.act = Act(None, None, None, request.remote_addr or "unknown", operation, str(target))
    witness(_record)


def made(target: object) -> None:
    """Name what this request makes, in its transaction."""
    g.act = g.act._replace(target=str(target))


def end(response: Response) -> Response:
    """Record this request as refused, if it was."""
    witness(None)
    act: Act | None = g.get("act")
    if act is not None and 400 <= response.status_code < 500 and response.status_code != 429:
        try:
            with transaction() as session:
                audit.record(session, audit.refused(act, response.status_code, _reason(response)))
        except AgentFlowError as error:
            log_outage(logger, "refusal_not_recorded", error)
    return response


def _record(session: Session) -> None:
    witness(None)
    audit.record(session, g.act)


def _reason(response: Response) -> str:
    problem = response.get_json(silent=True)
    return str(problem.get("detail", "")) if isinstance(problem, dict) else ""
