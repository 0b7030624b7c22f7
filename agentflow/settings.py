"""Defines every setting, its default and its unit. Nothing else reads the environment.

Each setting is the environment variable `AGENTFLOW_<NAME>`. Without `AGENTFLOW_DATABASE_URL` and
`AGENTFLOW_BROKER_URL`, the addresses of the stack that `agentflow up` runs from `data_dir` are used, so
`celery -A agentflow worker` in that folder needs no configuration.
"""

import base64
import json
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from agentflow.credentials.oauth2_providers import OAuthProvider, merged
from agentflow.credits.model_prices import model_prices
from agentflow.errors import EngineError

STACK_FILE = "stack.json"
"""The file in `data_dir` where `agentflow up` writes the addresses of its servers (mode 0600)."""

_MEBIBYTE = 1024 * 1024
_KEY_BYTES = 32
_LONGEST_ADDRESS = 254  # characters, by RFC 5321
_MAIL_ADDRESS = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
_STANDARD = str.maketrans("-_", "+/")


class ProviderCredential(BaseModel):
    """The operator's credential for one provider. Fields that do not apply are empty; its `repr` shows no secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    type: Literal["api_key", "user_password", "host_scoped"] | None = Field(
        None, description="Which pins take it; None: those that name the provider."
    )
    api_key: SecretStr = SecretStr("")
    username: str = ""
    password: SecretStr = SecretStr("")
    base_url: str = Field("", repr=False)
    headers: dict[str, SecretStr] = {}

    @property
    def is_headers_only(self) -> bool:
        """Whether it consists of headers only."""
        return bool(self.headers) and not (self.api_key or self.username or self.password)

    def revealed(self) -> dict[str, Any]:
        """The credential as JSON, with its secrets."""
        headers = {name: value.get_secret_value() for name, value in self.headers.items()}
        secrets = {"api_key": self.api_key.get_secret_value(), "password": self.password.get_secret_value()}
        return {"type": self.type, "username": self.username, "base_url": self.base_url, "headers": headers, **secrets}


class Settings(BaseSettings):
    """Settings of one process; read once, then passed on."""

    # Error messages about wrong settings must not quote secrets.
    model_config = SettingsConfigDict(env_prefix="AGENTFLOW_", extra="ignore", hide_input_in_errors=True)

    # Where things are
    data_dir: Path = Field(Path(".agentflow"), description="The local stack's data, logs and addresses.")
    database_url: str | None = Field(None, description="PostgreSQL ≥ 14, as postgresql://…; unset: the local stack.")
    broker_url: str | None = Field(None, description="redis://… or amqp://…; unset: the local stack.")
    database_patience: float | None = Field(
        None, ge=0, description="Seconds a process that starts waits for PostgreSQL; unset: for ever."
    )
    url: str = Field("http://127.0.0.1:8080", description="The API's address, for the client and the command line.")
    api_key: str | None = Field(None, description="The API key that the command line uses; unset: the local stack's.")
    stack_secret: str | None = Field(
        None, description="Set by the local stack: its API proves its identity with it.", repr=False
    )

    # The API
    max_body_bytes: int = Field(16 * _MEBIBYTE, gt=0, description="A larger request body is refused (413).")
    max_nodes: int = Field(20_000, gt=0, description="A graph with more nodes is refused.")
    header_seconds: float = Field(10.0, gt=0, description="Seconds in which a request's headers must come; else 408.")
    body_seconds: float = Field(60.0, gt=0, description="Seconds in which a request's headers and body must come.")
    web_threads: int = Field(16, gt=0, description="Threads per API process for requests that do not wait.")
    max_event_streams: int = Field(
        8,
        gt=0,
        description="Event streams that an API process serves itself, while no live process does; one owner gets half.",
    )
    max_block_waits: int = Field(
        8, ge=0, description="Block calls that wait, per API process; one owner gets at most half; else 202."
    )
    request_rate: float = Field(200.0, gt=0, description="Requests a second and API key; above: 429.")
    hook_rate: float = Field(
        20.0, gt=0, description="Deliveries a second and trigger, over a minute; ten times as many from an address."
    )

    # Live updates
    live_address: str = Field("127.0.0.1", description="The address at which a live process listens.")
    live_port: int = Field(8100, ge=0, le=65_535, description="The port at which a live process listens.")
    live_url: str | None = Field(
        None,
        pattern=r"^http://[^/?#\s]+$",
        description="Where API processes reach a live process, as http://host:port, to pass event streams on to it; "
        "unset: they serve them themselves.",
    )
    max_live_connections: int = Field(
        10_000, gt=0, description="Connections per live process; one owner gets at most half."
    )

    # People who sign in
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^/?#\s]+$",
        description="The address at which browsers reach the API, as https://host; OpenID Connect and OAuth2 need it.",
    )
    trusted_proxies: int = Field(
        0, ge=0, le=10, description="Proxies before the API, whose X-Forwarded-For and -Proto are believed."
    )
    session_idle_seconds: float = Field(
        28_800.0, ge=300, description="Seconds without a request after which a session ends."
    )
    session_seconds: float = Field(604_800.0, ge=300, description="Seconds after which a session ends in any case.")
    sign_in_attempts: int = Field(
        10, gt=0, description="Attempts to sign in with a name in 15 minutes; ten times as many from an address."
    )
    oidc_issuer: str | None = Field(
        None, description="The OpenID Connect provider that people may sign in through, as its issuer; unset: none."
    )
    oidc_client_id: str | None = Field(None, description="What the provider calls this installation.")
    oidc_client_secret: SecretStr | None = Field(None, description="The secret that the provider gave it.", repr=False)
    oidc_create_users: bool = Field(
        False, description="Whether someone whom the provider knows, and nobody here, becomes a member."
    )

    # Node executions
    node_timeout: float = Field(3600.0, gt=0, description="Seconds an attempt may run, unless set otherwise.")
    lease_seconds: float = Field(
        15.0, ge=1, description="Seconds without a sign of life after which a worker loses its work."
    )
    max_losses: int = Field(3, ge=0, description="Lost leases or engine faults tolerated; one more: FAILED.")
    unserved_seconds: float = Field(
        86_400.0,
        gt=0,
        description="Seconds that work waits in a lane that no worker serves; then FAILED. inf: for ever.",
    )
    flush_seconds: float = Field(0.05, gt=0, description="Seconds within which a yielded value is stored and routed.")
    max_value_bytes: int = Field(10 * _MEBIBYTE, gt=0, description="A larger output value fails its node execution.")
    max_outputs: int = Field(20_000, gt=0, description="More outputs fail a node execution.")
    ready_window: int = Field(1000, gt=0, description="Node executions of a run that are ready or run; others wait.")
    max_active_runs: int = Field(50, gt=0, description="Runs of a user at once; others start as these end.")
    max_schedules: int = Field(1000, ge=0, description="Schedules of a user.")
    max_depth: int = Field(10, ge=0, description="Levels of child runs below a run.")
    max_stored_bytes: int = Field(
        1024 * _MEBIBYTE, gt=0, description="Bytes that a user may store: graphs, and what blocks remember."
    )
    lanes: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        None, description="Lanes (comma-separated) that graphs may name beside default, io and cpu; unset: any."
    )
    max_signals: int = Field(1000, gt=0, description="External events that a run keeps for later.")
    credentials: dict[str, ProviderCredential] = Field(
        {},
        description='Credentials of providers, as JSON: {"openai": {"api_key": …, "base_url": …}, …}.',
        repr=False,
    )
    oauth_providers: dict[str, OAuthProvider] = Field(
        {},
        description='Apps at providers of OAuth2, as JSON: {"github": {"client_id": …, "client_secret": …}, …}.',
        repr=False,
    )
    credential_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Keys (comma-separated, 32 bytes each as base64) that encrypt users' credentials: the first "
        "encrypts, all decrypt; unset: the local stack's, else none can be stored.",
        repr=False,
    )
    show_tracebacks: bool = Field(
        False,
        description="Keep and show the traceback of a block's bug, for those who write blocks; on in agentflow up.",
    )
    max_node_executions: int = Field(100_000, gt=0, description="A run with more ends FAILED.")
    child_memory_mb: int = Field(2048, ge=128, description="Memory limit of one worker child process, in MiB.")

    # Moderation
    moderation: str | None = Field(
        None,
        description="Checks what runs get and give: https://…, words:FILE, python:MODULE:FUNCTION; unset: off.",
    )
    moderation_failure: Literal["refuse", "pass"] = Field(
        "refuse", description="What becomes of a text at which the moderator fails. One that is late lets it pass."
    )
    moderation_keep: bool = Field(False, description="Keep what moderation refused, for admins to see.")
    moderation_token: SecretStr | None = Field(None, description="Bearer token for the moderation service.", repr=False)

    # Web blocks
    http_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="host:port pairs (comma-separated) that blocks and notifications may reach although they are not "
        "public.",
    )
    http_timeout: float = Field(30.0, gt=0, description="Seconds a web block waits for one request.")
    http_max_bytes: int = Field(10 * _MEBIBYTE, gt=0, description="A larger response fails the node execution.")
    wikipedia_url: str = Field("https://en.wikipedia.org/api/rest_v1", description="Wikipedia's REST API.")
    search_url: str = Field("https://s.jina.ai", description="Answers SearchTheWeb: GET <url>/<query>.")
    reader_url: str = Field("https://r.jina.ai", description="Answers ExtractWebsiteContent: GET <url>/<address>.")
    code_execution: bool = Field(False, description="Whether ExecuteCode may run users' code, in a sandbox.")

    # Credits
    credits: bool = Field(False, description="Whether owners pay for what their runs cost, from the credits they have.")
    credits_daily_limit: int | None = Field(
        None, ge=0, description="Credits that an owner may spend a day (UTC), unless set for them; unset: any."
    )
    credits_low: int | None = Field(
        None, ge=1, description="An owner with fewer credits than this is low on them; unset: nobody is."
    )
    model_prices: Path | None = Field(
        None, description="JSON file of what language models cost; unset: the one in the package."
    )
    top_up_secret: SecretStr | None = Field(
        None, description="Secret of the webhook for top-ups, whsec_… of Standard Webhooks; unset: there is none."
    )

    # Notifications
    smtp_host: str | None = Field(None, description="The mail server for notifications; unset: none by e-mail.")
    smtp_port: int = Field(587, ge=1, le=65_535, description="Its port.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="tls: from the first byte, as on port 465; none: no TLS, and no password."
    )
    smtp_user: str | None = Field(None, description="The user name at the mail server; unset: no login.")
    smtp_password: SecretStr | None = Field(None, description="The password there.", repr=False)
    mail_from: str | None = Field(None, description="The sender's address in notifications by e-mail.")
    notification_seconds: float = Field(
        20.0, ge=1, le=600, description="Seconds that sending one notification over one channel may take."
    )
    notification_retry_seconds: float = Field(
        30.0, ge=0.1, description="Seconds until one that failed is tried again; doubled each time, up to a day."
    )
    notification_days: int = Field(90, ge=1, description="Days for which notifications are kept.")
    notification_templates: Path | None = Field(
        None, description="Folder whose files replace the texts of notifications: <type>/subject.txt, …"
    )

    # Flower
    flower_auth: str | None = Field(None, description="user:password of the dashboard that agentflow up starts.")

    @field_validator("http_allow", "lanes", "credential_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("model_prices")
    @classmethod
    def _check_prices(cls, value: Path | None) -> Path | None:
        """Read the file: no process starts with prices that are wrong."""
        model_prices(value)
        return value

    @field_validator("top_up_secret")
    @classmethod
    def _check_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            signing_key(value)
        return value

    @field_validator("oauth_providers", mode="before")
    @classmethod
    def _complete_providers(cls, value: object) -> object:
        return merged(value)

    @field_validator("credentials")
    @classmethod
    def _lower_case(cls, value: dict[str, ProviderCredential]) -> dict[str, ProviderCredential]:
        """Lower-case the names, as blocks ask for them. Two names that differ in case only are refused."""
        named = {name.lower(): credential for name, credential in value.items()}
        if len(named) < len(value):
            raise ValueError("two credentials have the same name, but for capitals")
        return named

    @model_validator(mode="after")
    def _whole_provider(self) -> "Settings":
        """Refuse half a provider: nobody could sign in, and nobody be told why."""
        needed = ("oidc_client_id", "oidc_client_secret", "public_url")
        missing = [f"AGENTFLOW_{name.upper()}" for name in needed if self.oidc_issuer and not getattr(self, name)]
        if missing:
            raise ValueError(f"AGENTFLOW_OIDC_ISSUER needs {', '.join(missing)}, too")
        return self

    @model_validator(mode="after")
    def _whole_mail(self) -> "Settings":
        """Refuse half a mail server, and a password without TLS."""
        if self.smtp_host and not self.mail_from:
            raise ValueError("AGENTFLOW_SMTP_HOST needs AGENTFLOW_MAIL_FROM, too")
        if self.smtp_password and self.smtp_security == "none":
            raise ValueError("AGENTFLOW_SMTP_PASSWORD is not sent without TLS: set AGENTFLOW_SMTP_SECURITY")
        if bool(self.smtp_user) != bool(self.smtp_password):
            raise ValueError("AGENTFLOW_SMTP_USER and AGENTFLOW_SMTP_PASSWORD go together")
        return self

    @field_validator("mail_from")
    @classmethod
    def _one_address(cls, value: str | None) -> str | None:
        return None if value is None else mail_address(value)

    @field_validator("credential_keys")
    @classmethod
    def _keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in value:
            _key(key.get_secret_value())
        return value

    def revealed_credentials(self) -> dict[str, Any]:
        """The credentials as JSON, with their secrets."""
        return {name: credential.revealed() for name, credential in self.credentials.items()}

    @property
    def stack(self) -> dict[str, str]:
        """What `agentflow up` wrote about its stack in `data_dir`: database_url, broker_url, ...; empty if nothing."""
        path = self.data_dir / STACK_FILE
        if not path.is_file():
            return {}
        content: dict[str, str] = json.loads(path.read_text())
        return content

    def credential_key_ring(self) -> tuple[bytes, ...]:
        """The keys that encrypt users' credentials, the newest first; empty if there are none."""
        if self.credential_keys:
            return tuple(_key(key.get_secret_value()) for key in self.credential_keys)
        if self.database_url is not None:  # not the local stack's: its key must not get into another database
            return ()
        return tuple(_key(key) for key in self.stack.get("credential_keys", "").split(",") if key)

    def database(self) -> str:
        """The PostgreSQL address.

        Raises:
            EngineError: none is set, and no local stack runs.
        """
        return self._address("database_url", self.database_url)

    def broker(self) -> str:
        """The broker's address.

        Raises:
            EngineError: none is set, and no local stack runs.
        """
        return self._address("broker_url", self.broker_url)

    def _address(self, name: str, given: str | None) -> str:
        address = given or self.stack.get(name)
        if not address:
            raise EngineError(
                f"AGENTFLOW_{name.upper()} is not set, and no stack runs from {self.data_dir.absolute()}: "
                "set it, start `agentflow up` there, or name the folder of one that runs in AGENTFLOW_DATA_DIR"
            )
        return address


def signing_key(secret: SecretStr) -> bytes:
    """The key in a secret of Standard Webhooks.

    Raises:
        ValueError: it is none: `whsec_` and 24 to 64 bytes in base64.
    """
    given = secret.get_secret_value()
    try:
        key = base64.b64decode(given.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not given.startswith("whsec_") or not 24 <= len(key) <= 64:
        raise ValueError("this is no secret of Standard Webhooks: whsec_ and 24 to 64 random bytes in base64")
    return key


def mail_address(given: str) -> str:
    """The mail address, if it is one: of ASCII, on one line, without a name.

    Raises:
        ValueError: it is not.
    """
    if len(given) > _LONGEST_ADDRESS or not _MAIL_ADDRESS.fullmatch(given):
        raise ValueError("this is no mail address, as ann@example.com")
    return given


@cache
def settings() -> Settings:
    """The settings of this process, read from the environment at the first call.

    Raises:
        EngineError: some are wrong; the message names them, without their values.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(_sentence(problem["loc"], problem["msg"]) for problem in error.errors(include_url=False))
    except SettingsError as error:  # a value that must be JSON is not
        field = re.search(r'field "(\w+)"', str(error))
        wrong = f"AGENTFLOW_{field[1].upper()}: it is not JSON" if field else str(error)
    # Raised outside the except clauses: a traceback must not show the caught error, which may hold secrets.
    raise EngineError(f"the settings are wrong: {wrong}")


def _key(text: str) -> bytes:
    """The 32 bytes of a key, from base64 in either alphabet."""
    try:
        key = base64.b64decode(text.strip().translate(_STANDARD), validate=True)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise ValueError(f"each key is {_KEY_BYTES} bytes as base64: `openssl rand -base64 32` makes one")
    return key


def _sentence(place: tuple[int | str, ...], what: str) -> str:
    if not place:  # it concerns several
        return what
    name, *inside = (str(part) for part in place)
    return f"AGENTFLOW_{name.upper()}{''.join(f' → {part}' for part in inside)}: {what}"
