"""Takes mails on this machine for the demo: as much of SMTP as it needs to be sent one, on a free port of loopback."""

import email
import socketserver
import threading
from email import policy
from typing import Final, Self

_COMMANDS: Final = {"HELO": "250 here", "EHLO": "250 here", "MAIL": "250 ok", "RCPT": "250 ok", "RSET": "250 ok"}
_SILENCE_SECONDS: Final = 30.0
_MOST_BYTES: Final = 1024 * 1024


class DemoMailbox:
    """The running mail server. A context manager.

    Attributes:
        port: where it listens.
    """

    def __init__(self) -> None:
        self._server = _Server()
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="demo mailbox", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def await_mail(self, words: str, seconds: float) -> str | None:
        """The text of a mail that has `words` in it, which came or comes within `seconds`; None: none does."""

        def found() -> str | None:
            return next((one for one in self._server.texts if words in one), None)

        with self._server.came:
            self._server.came.wait_for(lambda: found() is not None, seconds)
            return found()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.texts: list[str] = []
        self.came = threading.Condition()


class _Handler(socketserver.StreamRequestHandler):
    server: _Server
    timeout = _SILENCE_SECONDS

    def handle(self) -> None:
        self._say("220 demo")
        while line := self.rfile.readline(_MOST_BYTES):
            command = line[:4].decode("ascii", "replace").upper()
            if command == "QUIT":
                self._say("221 bye")
                return
            if command == "DATA":
                self._say("354 go on")
                self._take()
            self._say("250 ok" if command == "DATA" else _COMMANDS.get(command, "502 unknown"))

    def _take(self) -> None:
        lines: list[bytes] = []
        while (line := self.rfile.readline(_MOST_BYTES)) and line.rstrip(b"\r\n") != b".":
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        message = email.message_from_bytes(b"".join(lines), policy=policy.default)
        body = message.get_body(("plain",))
        with self.server.came:
            self.server.texts.append(f"{message['Subject']}\n\n{body.get_content() if body else ''}")
            self.server.came.notify_all()

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())
