"""Users of an installation under chaos: each submits graphs, steers the runs, and judges what comes out."""

import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, TypeVar
from uuid import UUID

from fleet import Fleet
from random_graphs import EVENT, random_graph

from agentflow.client.client import Client
from agentflow.client.http import ApiError, Unreachable
from agentflow.schemas.runs import RunView

T = TypeVar("T")

_POLL: Final = 0.3
_PATIENCE: Final = 120.0
"""Seconds for which the API may not answer: longer than any fault lasts."""


@dataclass(slots=True)
class Seen:
    """What all users saw; shared between their threads."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    pending: dict[UUID, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1

    def complain(self, what: str) -> None:
        with self.lock:
            self.wrong.append(what)


def patiently(call: Callable[[], T]) -> T:
    """The answer, once the API gives one; its refusals are answers too."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return call()
        except Unreachable:
            if time.monotonic() > end:
                raise
        except ApiError as error:
            if (error.status < 500 and error.status != 429) or time.monotonic() > end:
                raise
        time.sleep(_POLL)


class User:
    """Submits one run after another until told to stop."""

    def __init__(self, number: int, seed: int, fleet: Fleet, seen: Seen, no_more: threading.Event) -> None:
        self._rng = Random(f"{seed}/{number}")
        self._name = f"{seed}/{number}"
        self._client = Client(fleet.url, fleet.key)
        self._seen = seen
        self._no_more = no_more

    def go(self) -> None:
        """Until told to stop; whatever goes wrong is noted."""
        while not self._no_more.is_set():
            seed = self._rng.getrandbits(40)
            try:
                self._one_run(seed)
            except Exception:
                self._seen.complain(f"graph {seed}: {traceback.format_exc(limit=4)}")

    def _one_run(self, seed: int) -> None:
        document, draft = random_graph(seed, lambda sub: patiently(lambda: self._client.graphs.create(sub)).id)
        key = f"{self._name}/{seed}"
        run_id = patiently(lambda: self._client.submit_inline(document, idempotency_key=key)).id
        with self._seen.lock:
            self._seen.pending[run_id] = f"graph {seed}"
        for _ in range(draft.events):
            self._event(run_id)
        steered = self._steer(run_id, can_retry=not draft.reordered_by_retry)
        run = self._ended(run_id)
        with self._seen.lock:
            del self._seen.pending[run_id]
        self._judge(seed, run, draft.outputs, steered)

    def _event(self, run_id: UUID) -> None:
        """One that may have been heard is sent again: more than are waited for do no harm."""
        try:
            patiently(lambda: self._client.signal(run_id, EVENT, "now"))
        except ApiError as error:
            if error.status != 409:  # the run has ended without it
                raise

    def _steer(self, run_id: UUID, *, can_retry: bool) -> str:
        """Leave the run alone, pause it, cancel it, or cancel and retry it. What was done."""
        chance = self._rng.random()
        if chance < 0.75:
            return "left alone"
        time.sleep(self._rng.uniform(0, 4))
        try:
            if chance < 0.85:
                patiently(lambda: self._client.pause(run_id))
                time.sleep(self._rng.uniform(0, 3))
                patiently(lambda: self._client.resume(run_id))
                return "paused"
            patiently(lambda: self._client.cancel(run_id))
            if chance < 0.93 or not can_retry:
                return "cancelled"
            if self._ended(run_id).status == "CANCELLED":
                patiently(lambda: self._client.retry(run_id))
            return "retried"
        except ApiError as error:
            if error.status != 409:  # it had ended before
                raise
            return "left alone" if chance < 0.85 else "cancelled"

    def _ended(self, run_id: UUID) -> RunView:
        while True:
            run = patiently(lambda: self._client.get_run(run_id))
            if run.ended:
                return run
            time.sleep(_POLL)

    def _judge(self, seed: int, run: RunView, wanted: dict[str, list[Any]], steered: str) -> None:
        self._seen.count(f"{run.status} ({steered})")
        if run.status == "CANCELLED" and steered == "cancelled":
            return
        if run.status != "COMPLETED":
            self._seen.complain(f"graph {seed}, run {run.id} ({steered}): {run.status} {run.reason} {run.error}")
            return
        got: dict[str, list[Any]] = {name: [] for name in wanted}
        for item in patiently(lambda: list(self._client.outputs(run.id))):
            got.setdefault(item.name, []).append(item.value)
        if steered == "retried":  # what was cancelled goes out after what had been done before
            got, wanted = ({name: sorted(values) for name, values in side.items()} for side in (got, wanted))
        for name in got:
            if got[name] != wanted.get(name):
                self._seen.complain(
                    f"graph {seed}, run {run.id} ({steered}): output {name} is {got[name]}, not {wanted.get(name)}"
                )


def approve_all(fleet: Fleet, seed: int, seen: Seen, done: threading.Event) -> None:
    """A person who approves whatever is to be reviewed, in no order."""
    rng, client = Random(f"{seed}/reviews"), Client(fleet.url, fleet.key)
    while not done.wait(_POLL):
        try:
            waiting = patiently(lambda: list(client.reviews(limit=100)))
            rng.shuffle(waiting)
            for review in waiting:
                _approve(client, review.id)
        except Exception:
            seen.complain(f"reviews: {traceback.format_exc(limit=4)}")


def _approve(client: Client, review: UUID) -> None:
    try:
        patiently(lambda: client.approve(review))
    except ApiError as error:
        if error.status not in (404, 409):  # approved by the request whose answer was lost; or its run has ended
            raise
