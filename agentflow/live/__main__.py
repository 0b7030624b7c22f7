"""Runs a live process: `python -m agentflow.live`. Its address and port are settings."""

import gc
import logging
import resource
import sys
from types import FrameType
from typing import Final

import uvicorn

from agentflow.blocks import registry
from agentflow.errors import EngineError
from agentflow.live.app import create_app
from agentflow.live.messages import Cut
from agentflow.live.process import Live
from agentflow.live.websocket import MAX_MESSAGE
from agentflow.live.wire import HttpWire, WebSocketWire
from agentflow.logs import FORMAT, FieldsFormatter
from agentflow.services.readiness import await_database
from agentflow.settings import settings

_FILES_BESIDE: Final = 100  # that are open beside those of connections
_PING_SECONDS: Final = 20.0  # between two pings of a WebSocket, and until the answer
_STOP_SECONDS: Final = 5  # that clients have to receive the end of what was sent
_SWITCH_SECONDS: Final = 0.001
"""How long a thread may keep the interpreter while another wants it: what was read is to be sent at once."""


class _Server(uvicorn.Server):
    """A server that says goodbye to its clients before it stops."""

    def __init__(self, config: uvicorn.Config, live: Live) -> None:
        super().__init__(config)
        self._live = live

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        for reader in self._live.callers.everybody:
            if not reader.is_closed:
                reader.cut(Cut.STOPPING)
        super().handle_exit(sig, frame)


def main() -> None:
    """Serve until told to stop."""
    _log_to_standard_error()
    try:
        await_database(lambda line: print(f"agentflow: live is {line}", file=sys.stderr, flush=True))  # noqa: T201
        registry.every()  # which the first output that is told would load
        live = Live()
    except EngineError as error:
        sys.exit(f"agentflow: live does not start: {error.message}")
    _allow_files(settings().max_live_connections + _FILES_BESIDE)
    sys.setswitchinterval(_SWITCH_SECONDS)
    config = uvicorn.Config(
        create_app(live),
        host=settings().live_address,
        port=settings().live_port,
        http=HttpWire,
        ws=WebSocketWire,
        ws_max_size=MAX_MESSAGE,
        ws_ping_interval=_PING_SECONDS,
        ws_ping_timeout=_PING_SECONDS,
        ws_per_message_deflate=False,  # tens of kilobytes a connection, and what is sent to many is encoded once
        timeout_graceful_shutdown=_STOP_SECONDS,
        backlog=4096,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    gc.collect()
    gc.freeze()
    _Server(config, live).run()


def _log_to_standard_error() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(FieldsFormatter(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it logs each connection, with its query


def _allow_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


if __name__ == "__main__":
    main()
