"""Reads news feeds (RSS, Atom), once or repeatedly, without holding a worker.

An entry is identified by its id, else its link, else its text. An entry that was there at the last look is not given
out again; one that appears late with an old date is, unless it is older than the first look wanted. Between two looks
the block waits; its state holds the names of the newest `MAX_SEEN` entries seen. If a feed is unavailable, the block
tries again at the next look.

`feed_reading` parses the feed.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel, Field

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.blocks.web.feed_reading import NAME_LENGTH, read
from agentflow.clock import now
from agentflow.engine.waits import Timer, Wait
from agentflow.errors import BadInput, Transient
from agentflow.graph.catalogue import Dependence
from agentflow.net.answers import ask

MAX_SEEN: Final = 5000
"""Names of entries kept between two looks, 16 characters each."""

MAX_BYTES: Final = 2 * 1024 * 1024
"""Bytes of a feed."""

MAX_FAILURES: Final = 10
"""Failed looks in a row that are tolerated."""

_LONGEST_MINUTES: Final = 10 * 366 * 24 * 60
_LONGEST_SECONDS: Final = 366 * 86_400


class FeedEntry(BaseModel):
    """One entry of a feed."""

    title: str = Field(description="Its title.")
    link: str = Field(description="Where it is.")
    description: str = Field(description="What it says, or a summary; may be HTML, without scripts.")
    pub_date: str | None = Field(description="When it was published, in UTC, such as 2026-11-24T09:30:00Z.")
    author: str = Field(description="Who wrote it.")
    categories: list[str] = Field(description="What it is about.")


class ReadRSSFeed(Block):
    id = "5ebe6768-8e5d-41e3-9134-1c7bd89a8d52"
    name = "ReadRSSFeed"
    description = "Reads the entries of a news feed, once or again and again; then each entry is given out once."
    categories = ("INPUT",)
    lane = "io"
    for_each = ("entry",)
    depends_on = frozenset({Dependence.OUTSIDE, Dependence.TIME})

    class Input(BlockInput):
        rss_url: str = Field(description="The feed's address, http or https.")
        time_period: int = Field(
            1440, ge=0, le=_LONGEST_MINUTES, description="How old entries may be at the first look, in minutes."
        )
        polling_rate: int = Field(300, ge=1, le=_LONGEST_SECONDS, description="Seconds between two looks.")
        run_continuously: bool = Field(True, description="Look again and again, until the run is stopped.")

    class Output(BlockOutput):
        entry: FeedEntry = Field(description="Each entry, newest first as the feed has it.")
        entries: list[FeedEntry] = Field(description="All entries of one look; after the first, only if there are any.")

    # Examples that need a server are in the tests; these need none.
    vectors = (
        TestVector({"rss_url": "http://127.0.0.1:1/feed"}, fails="may not be reached from here"),
        TestVector({"rss_url": "file:///etc/passwd"}, fails="only http and https"),
        TestVector({"rss_url": "https://example.com/", "polling_rate": 0}, fails="polling_rate"),
        TestVector({"rss_url": "https://example.com/", "time_period": -1}, fails="time_period"),
        TestVector({}, fails="rss_url"),
    )

    async def run(self, inputs: Input, context: Context) -> AsyncIterator[tuple[str, Any] | Wait]:
        again = context.resumed is not None
        state = _State.read(context.resumed.state) if context.resumed else _State.first(inputs.time_period)
        try:
            found = await _entries(inputs.rss_url.strip())
        except Transient as error:
            state = state.failed()
            if not again or state.failures > MAX_FAILURES:
                raise
            context.logger.warning("feed_unavailable", extra={"reason": error.message})
            pause = max(float(inputs.polling_rate), min(error.after or 0.0, _LONGEST_SECONDS))
            yield Timer(pause, state.written())
            return
        fresh = [entry for name, at, entry in found if state.wants(name, at)]
        for entry in fresh:
            yield "entry", entry
        if fresh or not again:
            yield "entries", fresh
        if inputs.run_continuously:
            yield Timer(inputs.polling_rate, state.after([name for name, _, _ in found]).written())


@dataclass(frozen=True, slots=True)
class _State:
    """The state between two looks.

    Attributes:
        since: entries before this are never wanted.
        seen: names of entries, those of the last look first.
        failures: failed looks in a row.
    """

    since: datetime
    seen: tuple[str, ...] = ()
    failures: int = 0

    @classmethod
    def first(cls, minutes: int) -> "_State":
        return cls(now() - timedelta(minutes=minutes))

    @classmethod
    def read(cls, state: dict[str, Any]) -> "_State":
        packed = state["seen"]
        names = tuple(packed[at : at + NAME_LENGTH] for at in range(0, len(packed), NAME_LENGTH))
        return cls(datetime.fromtimestamp(state["since"], UTC), names, state["failures"])

    def written(self) -> dict[str, Any]:
        return {"since": self.since.timestamp(), "seen": "".join(self.seen), "failures": self.failures}

    def wants(self, name: str, at: datetime | None) -> bool:
        """Whether to give out an entry. One without a date is wanted the first time that it is seen."""
        return name not in self.seen and (at is None or at >= self.since)

    def after(self, names: list[str]) -> "_State":
        return _State(self.since, tuple(dict.fromkeys((*names, *self.seen)))[:MAX_SEEN])

    def failed(self) -> "_State":
        return _State(self.since, self.seen, self.failures + 1)


async def _entries(address: str) -> list[tuple[str, datetime | None, dict[str, Any]]]:
    """(name, time, entry) of each entry of a feed, each name once.

    Raises:
        BadInput: there is no feed at the address, or it cannot be reached from here.
        Transient: the feed is not available now.
    """
    reply = await ask("the feed's server", address, missing="there is no such feed")
    if len(reply.body) > MAX_BYTES:
        raise BadInput(f"the feed has more than {MAX_BYTES} bytes")
    headers = {name: reply.headers[name] for name in ("content-location",) if name in reply.headers}
    found: dict[str, tuple[str, datetime | None, dict[str, Any]]] = {}
    for entry in read(reply.text, headers):
        name, seconds = entry["name"], entry["time"]
        at = None if seconds is None else datetime.fromtimestamp(seconds, UTC)
        written = at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else None
        found.setdefault(name, (name, at, FeedEntry(**entry, pub_date=written).model_dump()))
    return list(found.values())
