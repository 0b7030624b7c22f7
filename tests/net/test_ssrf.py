"""A user's URL reaches public addresses only, whatever it is called and whatever its name resolves to."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from threading import Thread

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.errors import BadInput, Transient
from agentflow.net.ssrf import GuardedTransport, checked_addresses, host_and_port, is_public, resolve

CERTIFICATE = Path(__file__).parents[1] / "support" / "tls" / "good.test.pem"
"""For the host good.test only; made for these tests, trusted by nobody else."""

PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "172.32.0.1",
    "100.128.0.1",
    "198.17.0.1",
    "2606:4700:4700::1111",
    "2001:4860:4860::8888",
]

NOT_PUBLIC = [
    "0.0.0.0", "0.1.2.3", "10.1.2.3", "127.0.0.1", "127.255.255.254", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1",
    "198.19.255.255", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1::1",
    "2001:0:808:808::f5ff:fffe", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "100::1",
    "4000::1",
]  # fmt: skip


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_public(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_addresses_of_our_own_network_are_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@given(st.ip_addresses(v=4))
def test_nothing_is_public_that_python_calls_private_or_special(address: IPv4Address) -> None:
    if (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
    ):
        assert not is_public(address)


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:0:0", "64:ff9b::", "::"]))
def test_an_ipv6_address_that_carries_an_ipv4_address_is_no_more_public(inner: IPv4Address, prefix: str) -> None:
    outer = IPv6Address(int(IPv6Address(prefix)) | int(inner))
    assert is_public(outer) == is_public(inner)


class Names:
    """A resolver with answers of its own, one after the other."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        return self.answers.pop(0)


class Wire(httpx.AsyncBaseTransport):
    """Takes what the guard would send; the first `dead` addresses do not answer."""

    def __init__(self, dead: int = 0) -> None:
        self.dead = dead
        self.sent: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        if len(self.sent) <= self.dead:
            raise httpx.ConnectError("nobody there")
        return httpx.Response(200)


def send(transport: GuardedTransport, url: str) -> httpx.Response:
    return asyncio.run(transport.handle_async_request(httpx.Request("GET", url)))


def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    names, wire = Names(["93.184.215.14"], ["127.0.0.1"]), Wire()
    send(GuardedTransport((), resolver=names, inner=wire), "https://example.com:8443/a?b=c")
    [request] = wire.sent
    assert str(request.url) == "https://93.184.215.14:8443/a?b=c"
    assert request.headers["host"] == "example.com:8443"
    assert request.extensions["sni_hostname"] == "example.com"
    assert names.asked == [("example.com", 8443)]  # asked once: a second answer cannot take effect


def test_a_name_that_moves_to_loopback_is_refused_the_next_time() -> None:
    names, wire = Names(["93.184.215.14"], ["127.0.0.1"]), Wire()
    guard = GuardedTransport((), resolver=names, inner=wire)
    send(guard, "http://rebind.test/")
    with pytest.raises(BadInput, match=r"rebind\.test may not be reached"):
        send(guard, "http://rebind.test/")
    assert len(wire.sent) == 1


@pytest.mark.parametrize("answer", [["8.8.8.8", "10.0.0.1"], ["::1", "8.8.8.8"], ["fe80::1%eth0"], ["nonsense"]])
def test_one_bad_address_among_good_ones_is_enough(answer: list[str]) -> None:
    wire = Wire()
    with pytest.raises(BadInput):
        send(GuardedTransport((), resolver=Names(answer), inner=wire), "http://mixed.test/")
    assert wire.sent == []


def test_the_next_address_is_tried_where_one_is_dead() -> None:
    wire = Wire(dead=1)
    send(GuardedTransport((), resolver=Names(["2606:4700::1", "8.8.8.8"]), inner=wire), "http://two.test/")
    assert [request.url.host for request in wire.sent] == ["2606:4700::1", "8.8.8.8"]


def test_where_all_addresses_are_dead_the_failure_shows() -> None:
    wire = Wire(dead=2)
    with pytest.raises(httpx.ConnectError):
        send(GuardedTransport((), resolver=Names(["8.8.8.8", "8.8.4.4"]), inner=wire), "http://two.test/")


@pytest.mark.parametrize(
    "url",
    ["http://localhost/", "http://localhost./", "http://127.1/", "http://2130706433/", "http://0x7f000001/",
     "http://0177.0.0.1/", "http://[::1]/", "http://[::ffff:7f00:1]/", "http://0/", "http://user:pw@127.0.0.1/"],
)  # fmt: skip
def test_loopback_is_refused_however_it_is_spelt(url: str) -> None:
    with pytest.raises((BadInput, httpx.InvalidURL)):
        asyncio.run(checked_addresses(httpx.URL(url), ()))


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "file:///etc/passwd", "gopher://8.8.8.8/", "//8.8.8.8/", "http:///x"]
)
def test_only_http_and_https_with_a_host_are_fetched(url: str) -> None:
    with pytest.raises(BadInput):
        asyncio.run(checked_addresses(httpx.URL(url), (), Names(["8.8.8.8"])))


@pytest.mark.parametrize(
    ("url", "pair"),
    [
        ("http://127.0.0.1:8000/x", "127.0.0.1:8000"),
        ("http://LocalHost/", "localhost:80"),
        ("https://localhost/", "localhost:443"),
        ("http://[::1]:8000/", "[::1]:8000"),
    ],
)
def test_an_allowed_pair_is_the_text_of_host_and_port(url: str, pair: str) -> None:
    assert host_and_port(httpx.URL(url)) == pair
    asyncio.run(checked_addresses(httpx.URL(url), {pair}, Names(["127.0.0.1"])))


@pytest.mark.parametrize(
    "url", ["http://localhost:8000/", "http://127.0.0.1:8001/", "https://127.0.0.1/", "http://127.1:8000/"]
)
def test_another_text_for_an_allowed_pair_is_not_allowed(url: str) -> None:
    with pytest.raises(BadInput, match="may not be reached"):
        asyncio.run(checked_addresses(httpx.URL(url), {"127.0.0.1:8000"}, Names(["127.0.0.1"])))


@pytest.mark.parametrize(
    ("number", "raised"), [(socket.EAI_NONAME, BadInput), (socket.EAI_AGAIN, Transient), (socket.EAI_FAIL, Transient)]
)
def test_a_host_that_does_not_exist_is_told_from_a_name_server_that_is_away(
    number: int, raised: type[Exception]
) -> None:
    async def failing(host: str, port: int) -> list[str]:
        raise socket.gaierror(number, "it said so")

    with pytest.raises(raised, match=r"gone\.test"):
        asyncio.run(checked_addresses(httpx.URL("http://gone.test/"), (), failing))


def test_a_label_that_is_too_long_is_no_host_name() -> None:
    with pytest.raises((BadInput, httpx.InvalidURL)):
        asyncio.run(checked_addresses(httpx.URL(f"http://{'a' * 70}.test/"), ()))


def test_the_systems_resolver_gives_each_address_once() -> None:
    assert asyncio.run(resolve("127.0.0.1", 80)) == ["127.0.0.1"]


@pytest.fixture
def tls_port() -> Iterator[int]:
    """A server that proves itself as good.test and answers one request a connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as secured:
                    secured.recv(65536)
                    secured.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
            except OSError:
                connection.close()

    thread = Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def _over_tls(host: str, port: int) -> str:
    trusting = httpx.AsyncHTTPTransport(verify=ssl.create_default_context(cafile=str(CERTIFICATE)))
    guard = GuardedTransport([f"{host}:{port}"], resolver=Names(["127.0.0.1"]), inner=trusting)

    async def get() -> str:
        async with httpx.AsyncClient(transport=guard, trust_env=False) as client:
            return (await client.get(f"https://{host}:{port}/")).text

    return asyncio.run(get())


def test_tls_verifies_the_name_and_not_the_address(tls_port: int) -> None:
    assert _over_tls("good.test", tls_port) == "hi"


def test_tls_refuses_a_certificate_of_another_name(tls_port: int) -> None:
    with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
        _over_tls("evil.test", tls_port)
