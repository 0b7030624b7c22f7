"""Sends HTTP requests for graphs; `ssrf` and `fetching` define what they may reach, and their limits.

A host-scoped credential is a set of headers for one site only. The operator names it after its host,
`host_scoped:api.example.com`, or names its site in `base_url`:

    {"host_scoped:api.example.com": {"headers": {"X-Key": "…"}},
     "host_scoped": {"base_url": "https://example.com:8443", "api_key": "…"}}

A credential without `base_url` is for its host, over https on the usual port; an `api_key` becomes a bearer token. A
redirect to another site carries none of it. A user's own names its host, or a pattern of hosts (`host_fits`).
"""

import json
from collections.abc import AsyncIterator, Collection
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import httpx
from pydantic import Field

from agentflow.blocks.base import Block, BlockInput, BlockOutput, Context, TestVector
from agentflow.blocks.credentials import Credential, credentials, host_fits, provider_of
from agentflow.blocks.files.contents import content_of, is_address
from agentflow.engine.codec import dumps
from agentflow.errors import Ambiguous, BadInput
from agentflow.graph.catalogue import HOST_SCOPED, Dependence
from agentflow.net.answers import refusal
from agentflow.net.fetching import Body, Limits, Reply, fetch
from agentflow.net.ssrf import check_form, host_and_port
from agentflow.texts import ContentType, json_value, without_mark

_ANY_HOST: Final = frozenset({"http", HOST_SCOPED})
"""Provider names on a pin that mean any credential for the host. The platform's exports say `http`."""

if TYPE_CHECKING:
    _Credentials = dict[str, Any] | None
else:
    _Credentials = credentials("http", types=(HOST_SCOPED,))

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS"})


class SendWebRequest(Block):
    id = "6595ae1f-b924-42cb-9a41-551a0611c4b4"
    name = "SendWebRequest"
    description = (
        "Sends an HTTP request. Goes on along `response`, `client_error` (4xx) or `server_error` (anything else); "
        "fails where that pin has no link. Only public addresses can be reached."
    )
    categories = ("OUTPUT",)
    lane = "io"
    depends_on = frozenset({Dependence.OUTSIDE, Dependence.LINKS})
    cacheable = True

    class Input(BlockInput):
        url: str = Field(description="The address, http or https.")
        method: Literal["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"] = Field(
            "POST", description="The HTTP method."
        )
        headers: dict[str, str] = Field({}, description="Headers; those of the message itself are set for you.")
        json_format: bool = Field(True, description="Send the body as JSON and read JSON; else a form, and text.")
        body: Any = Field(None, description="What to send: a JSON value, or text.")
        files_name: str = Field("file", description="The form field of the files.")
        files: list[str] = Field(
            [], description="Files to send with the body's fields as a form: data: or http(s) addresses."
        )

    class Output(BlockOutput):
        response: Any = Field(description="The body of a reply with a status of 200 to 299.")
        client_error: Any = Field(description="The body of a reply with a status of 400 to 499.")
        server_error: Any = Field(description="The body of any other reply.")

    # Examples that need a server are in the tests; these need none.
    vectors: ClassVar[tuple[TestVector, ...]] = (
        TestVector({"url": "http://127.0.0.1:1/"}, fails="may not be reached from here"),
        TestVector({"url": "http://[::ffff:169.254.169.254]/latest/meta-data"}, fails="may not be reached from here"),
        TestVector({"url": "file:///etc/passwd"}, fails="only http and https"),
        TestVector({"url": "http://"}, fails="no host"),
        TestVector({"url": "http://xn--a/"}, fails="xn--a is not a host name"),
        TestVector({"url": "https://example.com:port/"}, fails="not an address that can be fetched"),
        TestVector({"url": "https://example.com/", "method": "BREW"}, fails="method"),
    )

    async def run(self, inputs: Input, context: Context) -> AsyncIterator[tuple[str, Any]]:
        headers = dict(inputs.headers)
        if inputs.method not in _IDEMPOTENT and "idempotency-key" not in {name.lower() for name in headers}:
            headers["Idempotency-Key"] = context.idempotency_key  # lets the server recognise a second attempt
        own = self._own_headers(inputs, context)
        taken = {name.lower() for name in own}
        headers = {name: value for name, value in headers.items() if name.strip().lower() not in taken} | own
        body = await _body(inputs)
        reply = await fetch(inputs.method, inputs.url.strip(), headers, body, Limits.from_settings())
        pin = _pin(reply.status)
        if pin != "response" and not context.is_linked(pin):  # otherwise the failure would look like a success
            raise refusal(httpx.URL(inputs.url.strip()).host, reply)
        yield pin, _value(reply, inputs.json_format)

    @classmethod
    def reusable(cls, inputs: Any, pins: Collection[str] = ()) -> bool:
        """Only successful requests that do not act on the other side may be reused."""
        return inputs.method in _IDEMPOTENT and set(pins) <= {"response"}

    def _own_headers(self, inputs: Input, context: Context) -> dict[str, str]:
        """Headers that override the user's."""
        return {}


class SendAuthenticatedWebRequest(SendWebRequest):
    id = "fff86bcd-e001-4bad-a7f6-2eae4720c8dc"
    name = "SendAuthenticatedWebRequest"
    description = (
        "Sends an HTTP request with the headers of a credential that is kept for its host. Goes on along `response`, "
        "`client_error` (4xx) or `server_error` (anything else); fails where that pin has no link. Only public "
        "addresses can be reached."
    )

    class Input(SendWebRequest.Input):
        # Optional for the check at submission, which cannot know the host; a run without one fails.
        credentials: _Credentials = Field(
            None,
            description="Which credential; left out: the one for the host.",
            json_schema_extra={"credentials_optional": True},
        )

    vectors = (
        TestVector({"url": "https://example.com/"}, fails="there is no credential for the host example.com"),
        TestVector({"url": "https://example.com:port/"}, fails="not an address that can be fetched"),
        TestVector({"url": "file:///etc/passwd"}, fails="only http and https"),
        TestVector(
            {"url": "https://example.com/", "credentials": {"provider": "shop"}},
            fails="there is no credential for shop",
        ),
        TestVector({"url": "http://xn--a/"}, fails="xn--a is not a host name"),
    )

    def _own_headers(self, inputs: SendWebRequest.Input, context: Context) -> dict[str, str]:
        assert isinstance(inputs, SendAuthenticatedWebRequest.Input)
        try:
            url = httpx.URL(inputs.url.strip())
        except httpx.InvalidURL as error:
            raise BadInput(f"this is not an address that can be fetched: {error}") from None
        check_form(url)
        credential = _credential_for(url, provider_of(inputs.credentials, HOST_SCOPED), context)
        bearer = {"Authorization": f"Bearer {credential.api_key}"} if credential.api_key else {}
        return {**bearer, **credential.headers}


def _credential_for(url: httpx.URL, provider: str, context: Context) -> Credential:
    """The credential that may be sent to `url`.

    Raises:
        BadInput: there is none, or it is for another site.
    """
    of_the_host = f"{HOST_SCOPED}:{url.host}"
    names = (of_the_host, HOST_SCOPED) if provider in _ANY_HOST else (provider,)
    for name in names:
        try:
            credential = context.credential(name)
        except Ambiguous:  # there are some: the operator's for all hosts is no answer
            raise
        except BadInput:
            if name == provider and provider not in _ANY_HOST:
                raise
            continue
        if credential.host:
            if host_fits(credential.host, url.scheme, url.raw_host.decode(), url.port):
                return credential
            raise BadInput(f"the credential {name} is for {credential.host}, and goes nowhere else")
        if not credential.base_url and name != of_the_host:
            raise BadInput(f"the credential {name} does not say for which site it is: the operator sets its base_url")
        if not _is_host_scoped(name, credential):
            raise BadInput(f"the credential {name} is none for a host: the operator gives it the type {HOST_SCOPED}")
        site = httpx.URL(credential.base_url or f"https://{url.host}")
        if _site(site) == _site(url):
            return credential
        if name != HOST_SCOPED:
            raise BadInput(f"the credential {name} is for {site.scheme}://{host_and_port(site)}, and goes nowhere else")
    raise BadInput(
        f"there is no credential for the host {url.host} here: store one of the type {HOST_SCOPED}, "
        f"or have the operator set {of_the_host}"
    )


def _is_host_scoped(name: str, credential: Credential) -> bool:
    """Whether a credential is for a host: by name, by type, or because it has only headers and no other key."""
    if name.partition(":")[0] == HOST_SCOPED or credential.type == HOST_SCOPED:
        return True
    return not (credential.type or credential.api_key or credential.username or credential.password)


def _site(url: httpx.URL) -> tuple[str, str]:
    return url.scheme, host_and_port(url)


def _pin(status: int) -> str:
    if 200 <= status < 300:
        return "response"
    return "client_error" if 400 <= status < 500 else "server_error"


async def _body(inputs: SendWebRequest.Input) -> Body:
    value = inputs.body
    if inputs.files:
        value = _json_or(value, value) if isinstance(value, str) else value
        if value is not None and not isinstance(value, dict):
            raise BadInput("with files, the body must be a dictionary of form fields")
        return Body(
            fields=_fields(value or {}), files=[(inputs.files_name, await _file(file)) for file in inputs.files]
        )
    if value is None:
        return Body()
    if isinstance(value, str):
        return Body(value, "application/json" if _is_json(value, inputs) else "text/plain; charset=utf-8")
    if isinstance(value, dict) and not inputs.json_format:
        return Body(fields=_fields(value))
    return Body(dumps(value), "application/json")


def _is_json(text: str, inputs: SendWebRequest.Input) -> bool:
    """Whether a body that is a text is JSON.

    Raises:
        BadInput: it is broken JSON: its type says JSON, or it begins like an object or a list.
    """
    given = {name.strip().lower(): value for name, value in inputs.headers.items()}.get("content-type")
    if not inputs.json_format or not (given is None or ContentType.parse(given).is_json):
        return False
    try:
        json.loads(without_mark(text), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        told = f"{error.msg} at line {error.lineno}, column {error.colno}"
    except RecursionError:
        told = "it is nested too deep"
    except ValueError as error:  # an invalid number, or one that is too long
        told = str(error)
    else:
        return True
    if given is None and not without_mark(text).lstrip().startswith(("{", "[")):
        return False
    raise BadInput(f"body: this is not JSON: {told}. (Where it is not meant to be, switch json_format off.)")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it has no {name}")


def _fields(body: dict[str, Any]) -> dict[str, str | list[str]]:
    """The body as form fields, which are texts; a list repeats a field."""
    return {
        name: [_field(item) for item in value] if isinstance(value, list) else _field(value)
        for name, value in body.items()
        if value is not None
    }


def _field(value: Any) -> str:
    return value if isinstance(value, str) else dumps(value)


async def _file(address: str) -> tuple[str, bytes, str]:
    """(file name, content, media type) of a file.

    Raises:
        BadInput: see `content_of`; or it is no address.
        Transient: see `content_of`.
    """
    if not is_address(address):
        raise BadInput("a file must be a data: or an http(s) address, such as data:text/plain;base64,SGVsbG8=")
    content = await content_of(address)
    return content.name or "file", content.data, content.media_type


def _value(reply: Reply, json_format: bool) -> Any:
    """A JSON reply as its value, if wanted; everything else, broken JSON included, as text."""
    if not (json_format and reply.content_type.is_json):
        return reply.text
    return _json_or(reply.text, reply.text) if reply.body.strip() else None


def _json_or(text: str, otherwise: Any) -> Any:
    try:
        return json_value(text)
    except (ValueError, RecursionError):
        return otherwise
