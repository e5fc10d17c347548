"""The known-servers file: readable, editable, and strict about errors."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from tchat.client.known_servers import KnownServer, KnownServers
from tchat.core.fingerprints import pin_text
from tchat.errors import Code, StartupError
from tchat.net.address import Address

if TYPE_CHECKING:
    from pathlib import Path

HERE = Address("chat.example.org", 7777)
PIN, OTHER = bytes(range(32)), bytes(32)


def known(path: Path, text: str) -> KnownServers:
    """Return the known servers of a file with this text."""
    path.mkdir(exist_ok=True)
    (path / "known_servers").write_text(text, encoding="utf-8")
    return KnownServers(path / "known_servers")


def test_no_server_is_known_without_a_file(tmp_path: Path) -> None:
    assert KnownServers(tmp_path / "not" / "there").find(HERE) is None
    assert list(tmp_path.iterdir()) == []


def test_server_is_saved_in_a_readable_line(tmp_path: Path) -> None:
    path = tmp_path / "state" / "known_servers"
    KnownServers(path).add(HERE, PIN)
    KnownServers(path).add(Address("2001:db8::7", 80), None)
    *header, first, second = path.read_text().splitlines()
    assert header
    assert all(line.startswith("# ") for line in header)
    assert first == "chat.example.org:7777 sha256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert second == "[2001:db8::7]:80 ca"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_saved_server_is_known_to_another_process(tmp_path: Path) -> None:
    path = tmp_path / "known_servers"
    KnownServers(path).add(HERE, PIN)
    KnownServers(path).add(Address("localhost", 1), None)
    assert KnownServers(path).find(HERE) == KnownServer(PIN, 3)
    assert KnownServers(path).find(Address("localhost", 1)) == KnownServer(None, 4)


def test_without_a_file_servers_are_in_memory() -> None:
    servers = KnownServers()
    servers.add(HERE, PIN)
    assert servers.find(HERE) == KnownServer(PIN, 1)
    assert KnownServers().find(HERE) is None


def test_the_port_belongs_to_the_server(tmp_path: Path) -> None:
    servers = known(tmp_path, f"chat.example.org:7777 {pin_text(PIN)}\n")
    for other in (Address("chat.example.org", 777), Address("example.org", 7777)):
        assert servers.find(other) is None


def test_the_case_of_a_host_does_not_matter(tmp_path: Path) -> None:
    servers = known(tmp_path, f"Chat.Example.ORG:7777 {pin_text(PIN)}\n[2001:DB8::A]:1 ca\n")
    assert servers.find(Address("CHAT.example.org", 7777)) == KnownServer(PIN, 1)
    assert servers.find(Address("2001:db8::a", 1)) == KnownServer(None, 2)
    servers.add(Address("LOCALHOST", 1), None)
    assert servers.find(Address("localhost", 1)) == KnownServer(None, 3)


def test_the_case_of_a_pin_does_matter(tmp_path: Path) -> None:
    pin = bytes(range(100, 132))
    servers = known(tmp_path, f"chat.example.org:7777 {pin_text(pin).swapcase()}\n")
    with pytest.raises(StartupError):
        servers.find(HERE)


def test_blank_lines_and_comments_are_ignored(tmp_path: Path) -> None:
    text = (
        "\n# chat.example.org:7777 ca\n   \n"
        f"\t chat.example.org:7777 \t {pin_text(PIN)}   # at work, asked Zoë\r\n#\n"
    )
    assert known(tmp_path, text).find(HERE) == KnownServer(PIN, 4)
    assert known(tmp_path, f"{HERE} ca#comment\n").find(HERE) == KnownServer(None, 1)


def test_first_of_two_entries_wins(tmp_path: Path) -> None:
    one, other = (f"{HERE} {pin_text(pin)}\n" for pin in (PIN, OTHER))
    assert known(tmp_path, one + other).find(HERE) == KnownServer(PIN, 1)
    assert known(tmp_path, other + one).find(HERE) == KnownServer(OTHER, 1)


def test_existing_entry_is_not_changed(tmp_path: Path) -> None:
    servers = known(tmp_path, "# mine\nlocalhost:1 ca # mine, too\n")
    servers.add(HERE, PIN)
    text = (tmp_path / "known_servers").read_text()
    assert text == f"# mine\nlocalhost:1 ca # mine, too\n{HERE} {pin_text(PIN)}\n"


@pytest.mark.parametrize("last", ["localhost:1 ca", "# the end"])
def test_missing_final_newline_is_added(tmp_path: Path, last: str) -> None:
    servers = known(tmp_path, last)
    servers.add(HERE, PIN)
    assert servers.find(HERE) == KnownServer(PIN, 2)
    assert (tmp_path / "known_servers").read_text().splitlines()[0] == last


@pytest.mark.parametrize(
    "line",
    [
        "chat.example.org:7777",
        "chat.example.org:7777 CA",
        "chat.example.org:7777 yes",
        "chat.example.org:7777 sha256:",
        f"chat.example.org:7777 {pin_text(PIN)[:-1]}",
        f"chat.example.org:7777 {pin_text(PIN)}A",
        f"chat.example.org:7777 {pin_text(PIN)[7:]}",
        "chat.example.org:7777 ca certainly",
        "chat.example.org:7777 # ca",
        f"chat.example.org:7777 ca {pin_text(PIN)}",
    ],
)
def test_invalid_entry_is_an_error(tmp_path: Path, line: str) -> None:
    servers = known(tmp_path, f"# mine\n\n{line}\n{HERE} {pin_text(PIN)}\n")
    with pytest.raises(StartupError) as caught:
        servers.find(HERE)
    assert caught.value.code == Code.CANNOT_START
    place = f"Line 3 of {tmp_path / 'known_servers'} is not valid: "
    assert caught.value.sentence.startswith(place)


def test_invalid_entries_of_other_servers_are_ignored(tmp_path: Path) -> None:
    servers = known(tmp_path, f"what is this\nelsewhere:1 nonsense\n{HERE} {pin_text(PIN)}\n")
    assert servers.find(HERE) == KnownServer(PIN, 3)


def test_binary_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "known_servers").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StartupError, match=r"known_servers cannot be used: it is not valid UTF-8"):
        KnownServers(tmp_path / "known_servers").find(HERE)


def test_unusable_path_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    servers = KnownServers(tmp_path / "file" / "known_servers")
    with pytest.raises(StartupError, match=r"known_servers cannot be used: Not a directory"):
        servers.find(HERE)
    with pytest.raises(StartupError, match=r"known_servers cannot be used: "):
        servers.add(HERE, PIN)
