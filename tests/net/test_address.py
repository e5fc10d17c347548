"""Addresses, listening, and the explanation of network errors."""

from __future__ import annotations

import socket

import pytest
import trio

from tchat.errors import StartupError
from tchat.net.address import Address, enclosing_networks, split_address
from tchat.net.tcp import connect, explain, listen, port_of


def test_an_ipv6_address_is_written_in_brackets() -> None:
    assert str(Address("::1", 7777)) == "[::1]:7777"
    assert str(Address("localhost", 7777)) == "localhost:7777"


@pytest.mark.parametrize(
    ("typed", "host", "port"),
    [
        ("localhost", "localhost", None),
        ("localhost:7777", "localhost", 7777),
        ("10.0.0.1:80", "10.0.0.1", 80),
        ("::1", "::1", None),
        ("[::1]", "::1", None),
        ("[::1]:7777", "::1", 7777),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
        ("2001:db8::7:80", "2001:db8::7:80", None),
        ("", "", None),
        ("[]:1", "[]:1", None),
        ("[::1]:", "[::1]:", None),
        ("host:port", "host:port", None),
    ],
)
def test_typed_address_is_split_into_its_parts(typed: str, host: str, port: int | None) -> None:
    assert split_address(typed) == (host, port)
    if port is not None:
        assert str(Address(host, port)) == typed


async def test_port_0_is_the_same_on_every_address() -> None:
    listeners = await listen(Address("localhost", 0))
    assert len({port_of(listener) for listener in listeners}) == 1
    for listener in listeners:
        await listener.aclose()


async def test_a_port_in_use_is_explained() -> None:
    (listener,) = await listen(Address("127.0.0.1", 0))
    with pytest.raises(
        StartupError, match=r"^Cannot listen on .*: the port is already in use\. Give"
    ):
        await listen(Address("127.0.0.1", port_of(listener)))
    await listener.aclose()


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("no-such-host.invalid", "unknown host"),
        ("192.0.2.1", "this machine has no such address"),
        ("x" * 300, "not a valid host name"),
    ],
)
async def test_an_unusable_host_is_explained(host: str, sentence: str) -> None:
    with pytest.raises(StartupError, match=sentence):
        await listen(Address(host, 0))


async def test_a_refused_connection_is_explained() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match=r"all attempts to connect|refused") as failure:
            await connect(Address("127.0.0.1", unused.getsockname()[1]))
    assert explain(failure.value) == "connection refused"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (trio.BrokenResourceError(), "the connection broke"),
        (trio.ClosedResourceError(""), "the connection broke"),
        (trio.BrokenResourceError(" . "), "the connection broke"),
        (trio.TooSlowError(), "no answer in time"),
        (TimeoutError(), "no answer in time"),
        (OSError(), "the connection broke"),
        (trio.BrokenResourceError("\u200b\u2800"), "the connection broke"),
        (trio.BrokenResourceError("a\x1b[31mb\nc"), "a␛[31mb↵c"),
    ],
)
def test_error_without_a_message_is_described(error: BaseException, words: str) -> None:
    """No exception's class name and no control character reaches a person."""
    assert explain(error) == words


def test_an_error_keeps_its_own_message() -> None:
    assert explain(trio.BrokenResourceError("the server hung up.")) == "the server hung up"


@pytest.mark.parametrize(
    ("host", "networks"),
    [
        ("192.0.2.7", ("192.0.2.7/32",)),
        ("::ffff:192.0.2.7", ("192.0.2.7/32",)),
        (
            "2001:db8:1:234::7",
            ("2001:db8:1:234::/64", "2001:db8:1:200::/56", "2001:db8:1::/48"),
        ),
        ("fe80::1%eth0", ("fe80::/64", "fe80::/56", "fe80::/48")),
        ("", ("",)),
    ],
)
def test_networks_of_one_customer(host: str, networks: tuple[str, ...]) -> None:
    assert enclosing_networks(host) == networks
