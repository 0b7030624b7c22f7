"""Tells all processes something at once, through Redis, where the broker is one.

A notice may be lost: whoever listens must also look now and then. Nothing here raises when the broker is away.
"""

import logging
import threading
import weakref
from typing import Any, Final, Protocol

import redis

from agentflow.logs import log_outage
from agentflow.settings import settings

logger = logging.getLogger(__name__)

_PREFIX: Final = "agentflow.notices."
_SECONDS: Final = 2.0
"""Timeout of one call; and the wait before another try to listen."""


def channel_name(channel: str) -> str:
    """What Redis calls the channel."""
    return _PREFIX + channel


def tell(channel: str, text: str) -> bool:
    """Send `text` to all that listen to `channel`. Returns whether the broker took it."""
    url = settings().broker()
    if not url.startswith("redis"):
        return False
    try:
        with redis.Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS) as client:
            client.publish(_PREFIX + channel, text)
    except (OSError, redis.RedisError) as error:
        log_outage(logger, "notice_not_sent", error)
        return False
    return True


class Subscriber(Protocol):
    """Who listens."""

    def heard(self, text: str) -> None:
        """A notice."""

    def deaf(self) -> None:
        """Notices may have been missed: at the start, and after each break."""


class Listener:
    """Listens to one channel in a thread of its own, as long as its subscriber lives."""

    def __init__(self, channel: str, subscriber: Subscriber) -> None:
        self._channel = _PREFIX + channel
        self._subscriber = weakref.ref(subscriber)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def ensure(self) -> None:
        """Listen from now on, where the broker is Redis. Cheap when it does; a forked process has to call it anew."""
        if self._thread is not None and self._thread.is_alive():
            return
        url = settings().broker()
        with self._lock:
            if url.startswith("redis") and (self._thread is None or not self._thread.is_alive()):
                work = (url, self._channel, self._subscriber)
                self._thread = threading.Thread(target=_listen, args=work, name=self._channel, daemon=True)
                self._thread.start()


def _listen(url: str, channel: str, subscriber: "weakref.ref[Subscriber]") -> None:
    pause = threading.Event()
    while (one := subscriber()) is not None:
        one.deaf()
        del one
        try:
            _hear(url, channel, subscriber)
        except (OSError, redis.RedisError) as error:
            log_outage(logger, "notices_not_heard", error)
        pause.wait(_SECONDS)


def _hear(url: str, channel: str, subscriber: "weakref.ref[Subscriber]") -> None:
    with (
        redis.Redis.from_url(url, socket_connect_timeout=_SECONDS, health_check_interval=10) as client,
        client.pubsub() as notices,
    ):
        notices.subscribe(channel)
        notice: Any = None
        while (one := subscriber()) is not None:
            if notice and notice["type"] == "subscribe":
                one.deaf()  # what was told before is missed
            elif notice and notice["type"] == "message":
                one.heard(notice["data"].decode())
            del one
            notice = notices.get_message(timeout=_SECONDS)
