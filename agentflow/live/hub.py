"""Reads on for all that watch something, and gives them what came.

A topic is a channel with its subscriptions. A topic that somebody was woken for, or whose subscriber is not at its end,
is due. `READERS` tasks take due topics, up to `AT_ONCE` together, read in a thread what is behind the places of their
subscribers (one question for all at the same place), and send it. A topic is with one task at a time, which keeps its
order. Under load more topics become due while one reading goes on, and the next takes them together: so the number of
queries does not grow with the number of wake-ups.
"""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from uuid import UUID

from agentflow.clock import monotonic
from agentflow.dispatch.watching import AWAKE_SECONDS
from agentflow.errors import AgentFlowError, Unavailable
from agentflow.live.channels import KINDS, Answer, Channel, Question
from agentflow.live.messages import Parcel
from agentflow.live.readers import Reader, Subscription
from agentflow.logs import log_outage
from agentflow.services.transaction import reading, transaction

logger = logging.getLogger(__name__)

READERS: Final = 2
"""Readings at the same time: while one waits for PostgreSQL, the other makes messages."""

AT_ONCE: Final = 50
"""Questions in one reading, at most."""

LOOK_SECONDS: Final = 3.0
"""Every topic is looked at so often, because a wake-up may be lost …"""

LOOK_SECONDS_UNHEARD: Final = 0.5
"""… and so often while there are none, because Redis is away or there is none."""

_SPARE: Final = 0.02  # seconds that a wake-up, or the commit of what comes without one, may take
_LOOKED_AT_ONCE: Final = 500  # topics in one such look
_FIRST_PAUSE: Final = 0.004  # seconds until what is held back by a running transaction is read for again, growing …
_LONGEST_PAUSE: Final = 0.25  # … to this
_AWAY_PAUSE: Final = 0.5  # seconds until another try while PostgreSQL is away
_EASE: Final = 3  # a topic rests for so many times as long as its reading took: more comes together then, …
_SHORTEST_REST: Final = 0.015  # … at least for so many seconds, …
_LONGEST_REST: Final = 0.06  # … and at most for so many, …
_REST_OF_MANY: Final = 0.08  # … so long where many runs are read, as a look costs more and brings more …
_LONG: Final = 0.05  # … unless reading takes so long, as that of many runs may, …
_LONG_EASE: Final = 9  # … and then for so many times as long: it takes a tenth of a thread, …
_MOST_EASE: Final = 2.0  # … but no longer than this


class Topic:
    """A channel with its subscriptions."""

    __slots__ = (
        "again", "channel", "held", "is_due", "is_read", "looks_again", "pause", "rest_until", "subscriptions", "timer",
    )  # fmt: skip

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.subscriptions: set[Subscription] = set()
        self.is_due = False  # it is in the line
        self.is_read = False  # a task has it …
        self.again = False  # … and it became due meanwhile
        self.looks_again = False  # it was woken: what followed at once comes without a wake-up
        self.held: dict[Any, float] = {}  # place → since when more is held back
        self.pause = 0.0
        self.rest_until = 0.0
        self.timer: asyncio.TimerHandle | None = None

    def questions(self) -> list[Question]:
        """What its subscribers ask for that can take something."""
        places = {one.place for one in self.subscriptions if not one.reader.is_behind}
        return [Question(self.channel, place, self.held.get(place)) for place in places]


class Hub:
    """All topics of this process. But for what is read in threads, everything happens in the event loop.

    Args:
        watch: called with the id of what is watched now and was not before.
    """

    def __init__(self, watch: Callable[[UUID], object]) -> None:
        self._watch = watch
        self._topics: dict[Hashable, Topic] = {}
        self._woken_by: defaultdict[UUID, set[Topic]] = defaultdict(set)
        self._due: deque[Topic] = deque()
        self._some_due = asyncio.Event()
        self._threads = ThreadPoolExecutor(READERS + 1, "reader")
        self._tasks: list[asyncio.Task[None]] = []
        self._of_many = 0
        self.hears = False

    def start(self) -> None:
        """Begin to read."""
        self._threads.submit(_warm_up)
        self._tasks = [asyncio.create_task(self._read_on(), name=f"reader {n}") for n in range(READERS)]
        self._tasks.append(asyncio.create_task(self._look_now_and_then(), name="looker"))

    async def stop(self) -> None:
        """Stop reading."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def watched(self) -> Iterable[UUID]:
        """The ids of all that is watched here."""
        return self._woken_by.keys()

    @property
    def watches_many(self) -> bool:
        """Whether anybody watches several runs in one channel."""
        return self._of_many > 0

    def subscribe(self, reader: Reader, channel: Channel, place: Any) -> None:
        """Let a reader have what is in a channel after a place."""
        topic = self._topics.get(channel.key)
        if topic is None:
            topic = self._topics[channel.key] = Topic(channel)
            self._of_many += channel.of_many
            if not self._woken_by[channel.woken_by]:
                self._watch(channel.woken_by)
            self._woken_by[channel.woken_by].add(topic)
        subscription = reader.subscriptions[channel.name] = Subscription(reader, topic, place)
        topic.subscriptions.add(subscription)
        self._mark(topic)

    def unsubscribe(self, reader: Reader, name: str) -> bool:
        """Let a reader have nothing more of a channel; whether it had."""
        subscription = reader.subscriptions.pop(name, None)
        if subscription is None:
            return False
        topic = subscription.topic
        topic.subscriptions.discard(subscription)
        if not topic.subscriptions:
            self._drop(topic)
        return True

    def leave(self, reader: Reader) -> None:
        """Forget a reader."""
        for name in list(reader.subscriptions):
            self.unsubscribe(reader, name)

    def wake(self, *ids: UUID) -> None:
        """Read on in what concerns these runs, owners or graphs; and once more a moment later."""
        for one in ids:
            for topic in self._woken_by.get(one, ()):
                topic.looks_again = True
                self._mark(topic)

    def resume(self, reader: Reader) -> None:
        """Go on with a reader that can take something again."""
        reader.moved()
        for subscription in reader.subscriptions.values():
            self._mark(subscription.topic)

    def look_at_all(self) -> None:
        """Read on everywhere: wake-ups may have been missed."""
        for topic in self._topics.values():
            self._mark(topic)

    def _drop(self, topic: Topic) -> None:
        if self._topics.get(topic.channel.key) is topic:
            del self._topics[topic.channel.key]
            self._of_many -= topic.channel.of_many
        woken = self._woken_by[topic.channel.woken_by]
        woken.discard(topic)
        if not woken:
            del self._woken_by[topic.channel.woken_by]
        if topic.timer is not None:
            topic.timer.cancel()

    def _mark(self, topic: Topic) -> None:
        if topic.timer is not None:
            topic.timer.cancel()
            topic.timer = None
        if topic.is_read:
            topic.again = True
        elif not topic.is_due:
            if (rest := topic.rest_until - monotonic()) > 0:
                self._mark_in(topic, rest)
                return
            topic.is_due = True
            self._due.append(topic)
            self._some_due.set()

    def _mark_in(self, topic: Topic, seconds: float) -> None:
        topic.timer = asyncio.get_running_loop().call_later(seconds, self._mark, topic)

    async def _read_on(self) -> None:
        while True:
            await self._some_due.wait()
            topics, questions = self._next()
            try:
                if questions:
                    await self._read(topics, questions)
            except Unavailable as error:
                log_outage(logger, "events_not_read", error)
                for topic in topics:
                    topic.rest_until, topic.again = monotonic() + _AWAY_PAUSE, True
            except Exception:
                logger.exception("events_not_read")
                for topic in topics:  # what is wrong with one must not become a loop
                    topic.rest_until, topic.again = monotonic() + LOOK_SECONDS, True
            for topic in topics:
                topic.is_read = False
                if topic.again and topic.subscriptions:
                    topic.again = False
                    self._mark(topic)

    def _next(self) -> tuple[list[Topic], list[Question]]:
        topics: list[Topic] = []
        questions: list[Question] = []
        while self._due and len(questions) < AT_ONCE:
            topic = self._due.popleft()
            topic.is_due = False
            topic.is_read = True
            topic.again = False
            topics.append(topic)
            questions += topic.questions()
        if not self._due:
            self._some_due.clear()
        return topics, questions

    async def _read(self, topics: Sequence[Topic], questions: Sequence[Question]) -> None:
        began = monotonic()
        loop = asyncio.get_running_loop()
        parts = [questions[start : start + AT_ONCE] for start in range(0, len(questions), AT_ONCE)]
        answers: dict[tuple[Hashable, Any], tuple[Answer, Parcel | None]] = {}
        for part in parts:
            answers |= await loop.run_in_executor(self._threads, _read, part)
        took = monotonic() - began
        for topic in topics:
            self._give(topic, answers, took)

    def _give(
        self, topic: Topic, answers: dict[tuple[Hashable, Any], tuple[Answer, Parcel | None]], took: float
    ) -> None:
        held: dict[Any, float] = {}
        came = more = False
        now = monotonic()
        key = topic.channel.key
        of_place = {place: found for (of, place), found in answers.items() if of == key}
        for one in list(topic.subscriptions):  # thousands may watch one run: each line counts
            found = of_place.get(one.place)
            if found is None or one.reader.is_behind:
                continue  # it came meanwhile, or cannot take it: its place stays
            answer, parcel = found
            one.place = answer.place
            if parcel is not None:
                came = True
                one.reader.take(parcel, now)
            if answer.over:
                self.unsubscribe(one.reader, topic.channel.name)
            elif answer.held_since is not None:
                held[answer.place] = answer.held_since
            more = more or answer.full
        topic.held = held
        if not topic.subscriptions:
            return
        if topic.channel.of_many and took > _LONG:
            topic.rest_until = monotonic() + min(took * _LONG_EASE, _MOST_EASE)
        elif came and not more:
            rest = _REST_OF_MANY if topic.channel.of_many else min(max(took * _EASE, _SHORTEST_REST), _LONGEST_REST)
            topic.rest_until = monotonic() + rest
        topic.again = topic.again or more
        if held and not topic.again:
            topic.pause = _FIRST_PAUSE if came else min(max(topic.pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
            self._mark_in(topic, topic.pause)
        elif not held:
            topic.pause = 0.0
            if topic.looks_again and not topic.again:
                topic.looks_again = False
                self._mark_in(topic, AWAKE_SECONDS + _SPARE)

    async def _look_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS if self.hears else LOOK_SECONDS_UNHEARD)
            try:
                await self._look()
            except Unavailable as error:
                log_outage(logger, "events_not_looked_for", error)
            except Exception:
                logger.exception("events_not_looked_for")

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        topics = list(self._topics.values())
        for start in range(0, len(topics), _LOOKED_AT_ONCE):
            asked = [
                (topic, question)
                for topic in topics[start : start + _LOOKED_AT_ONCE]
                if not topic.is_due and not topic.is_read
                for question in topic.questions()
            ]
            found = await loop.run_in_executor(self._threads, _news, [question for _, question in asked])
            for (topic, _), is_news in zip(asked, found, strict=True):
                if is_news and topic.subscriptions:
                    self._mark(topic)


def _warm_up() -> None:
    """Connect, and prepare the statements: the first subscriber need not wait for that."""
    try:
        with reading() as session:
            for kind in KINDS.values():
                kind.warm_up(session)
    except AgentFlowError as error:
        log_outage(logger, "not_warmed_up", error)


def _by_kind(questions: Sequence[Question]) -> dict[type[Channel], list[int]]:
    kinds: dict[type[Channel], list[int]] = {}
    for number, question in enumerate(questions):
        kinds.setdefault(type(question.channel), []).append(number)
    return kinds


def _read(questions: Sequence[Question]) -> dict[tuple[Hashable, Any], tuple[Answer, Parcel | None]]:
    """In a thread: the answers by channel and place, each with what is to be sent, encoded for most readers."""
    found: dict[tuple[Hashable, Any], tuple[Answer, Parcel | None]] = {}
    for kind, numbers in _by_kind(questions).items():
        asked = [questions[number] for number in numbers]
        for question, answer in zip(asked, _answers(kind, asked), strict=True):
            parcel = None
            if answer.messages or answer.over:
                over = question.channel.id_of(answer.place) if answer.over else None
                parcel = Parcel(question.channel.name, answer.messages, over)
            found[question.channel.key, question.place] = (answer, parcel)
    return found


def _answers(kind: type[Channel], asked: Sequence[Question]) -> list[Answer]:
    """Read together; if that fails, alone: one that cannot be read must not keep back the others."""
    try:
        with transaction(looks=True) if any(map(_is_held, asked)) else reading() as session:
            return kind.read(session, asked)
    except Unavailable:
        raise
    except Exception:
        if len(asked) == 1:
            logger.exception("channel_not_read", extra={"channel": asked[0].channel.name})
            return [Answer((), asked[0].place)]
        return [_answers(kind, [question])[0] for question in asked]


def _is_held(question: Question) -> bool:
    """Whether it may be answered by way of a lock, which needs a transaction."""
    return question.held_since is not None


def _news(questions: Sequence[Question]) -> list[bool]:
    news = [False] * len(questions)
    for kind, numbers in _by_kind(questions).items():
        with reading() as session:
            for number, is_news in zip(numbers, kind.news(session, [questions[n] for n in numbers]), strict=True):
                news[number] = is_news
    return news
