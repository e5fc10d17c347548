"""The settings file of `tchat serve`, and reloading it with SIGHUP."""

from __future__ import annotations

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tchat.core.fingerprints import pin_text
from tchat.core.pace import Rate
from tchat.errors import Code, StartupError
from tchat.net.address import Address, read_networks
from tchat.net.tls import make_credentials
from tchat.server.limits import LIMIT_KEYS
from tchat.server.settings import fixed_keys, read_serve_file, read_serve_settings
from tchat.settings_file import InvalidSettingError
from tests.helpers import GUARD
from tests.processes import launching


def test_values_have_the_types_of_the_options() -> None:
    text = """
        data = "/srv/tchat"
        metrics = "[::1]:9464"
        proxy_protocol = "127.0.0.1, 10.0.0.0/8"
        log_level = "warning"
        [limits]
        rate_limit = "20/50"
        max_file = "1G"
    """
    found = read_serve_settings(tomllib.loads(text))
    assert found["data"] == Path("/srv/tchat")
    assert found["metrics"] == Address("::1", 9464)
    assert found["proxy_protocol"] == read_networks("127.0.0.1/32,10.0.0.0/8")
    assert found["limit_messages"] == Rate(20, 50)
    assert found["limit_file"] == 1 << 30


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tchat.toml"
    path.write_text('data = "data"\ncert = "/etc/cert.pem"\nkey = "../key.pem"\n')
    found = read_serve_file(path)
    assert found == {
        "data": tmp_path / "data",
        "cert": Path("/etc/cert.pem"),
        "key": tmp_path / ".." / "key.pem",
    }


def test_every_option_is_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    """Besides the file itself and the help."""
    from tchat.cli import parser

    with pytest.raises(SystemExit):
        parser().parse_args(["serve", "--help"])
    words = capsys.readouterr().out.split()
    flags = {
        word.strip(",[]").removeprefix("--").replace("-", "_") for word in words if "--" in word
    }
    opposites = {"tls", "no_insecure"}
    flags = {flag for flag in flags if flag.isidentifier()} - {"config", "help"} - opposites
    assert set(fixed_keys()) - {"host", "port"} < flags
    for flag in flags:
        table = {"limits": {flag: "x"}} if flag in LIMIT_KEYS else {flag: ""}
        with pytest.raises(InvalidSettingError) as caught:
            read_serve_settings(table)
        assert "unknown key" not in str(caught.value), flag


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("prot = 1", "unknown key 'prot' (did you mean 'port'?)"),
        ('port = "7777"', "port is '7777'; expected a number from 1 to 65535"),
        ("port = 0", "port is 0; expected a number from 1 to 65535"),
        ('no_tls = "yes"', "no_tls is 'yes'; expected true or false"),
        ('metrics = "localhost"', "metrics: 'localhost' is not an address with a port"),
        ('proxy_protocol = "10.1.0.0/8"', "proxy_protocol: '10.1.0.0/8' is no list of networks"),
        ("proxy_protocol = true", "proxy_protocol is True; expected text"),
        (
            'log_format = "xml"',
            """log_format is 'xml'; expected one of "text", "json", "journal\"""",
        ),
        ("limits = 3", "limits is 3; expected a table"),
        ('keep_files = "90d"', "'keep_files' is a limit; write it below the line [limits]"),
        ("[limits]\nport = 7777", "'port' is no limit; write it above the line [limits]"),
        ('[limits]\nmax_fil = "1G"', "unknown key 'limits.max_fil' (did you mean 'max_file'?)"),
        ('[limits]\nmax_file = "1X"', "limits.max_file: '1X' is not a size; examples: 4096, 500M"),
        ("[limits]\nrate_limit = true", "limits.rate_limit is True; expected text"),
        ("= 1", "the file is not TOML: "),
        ('data = "\\u0000"', "data is '\\x00'; expected text without NUL characters"),
        ('host = "a\\u0000b"', "host is 'a\\x00b'; expected text without NUL characters"),
        ("port = " + 5000 * "1", "a value cannot be used ("),
        ("port = 0x" + 5000 * "f", "a value cannot be used ("),
        ('[limits]\nmax_file = "' + 5000 * "1" + '"', "a value cannot be used ("),
    ],
)
def test_a_wrong_file_names_the_key(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "tchat.toml"
    path.write_text(text)
    with pytest.raises(StartupError) as caught:
        read_serve_file(path)
    assert caught.value.code == Code.BAD_CONFIG
    assert caught.value.sentence.startswith(f"{path}: {reason}")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="there is no such file"):
        read_serve_file(tmp_path / "tchat.toml")


def write(path: Path, data: Path, limits: str = "", more: str = "") -> None:
    path.write_text(f'host = "127.0.0.1"\ndata = "{data}"\n{more}\n[limits]\n{limits}\n')


async def test_a_server_runs_from_its_file(tmp_path: Path) -> None:
    """Options on the command line are stronger."""
    path = tmp_path / "tchat.toml"
    write(
        path, tmp_path / "data", 'max_file = "2K"', 'log_format = "json"\nno_tls = true\nport = 1'
    )
    async with launching(tmp_path) as launch:
        server = await launch.tchat("serve", "127.0.0.1", 0, "--config", path, "--tls")
        await server.sees('"event": "listening"')
        await server.sees('"event": "key"')
        assert (tmp_path / "data" / "tchat.db").exists()
        wrong = await launch.tchat("serve", "--config", tmp_path / "none")
        assert "there is no such file" in await wrong.fails()
        nothing = await launch.tchat("serve")
        assert await nothing.exit() == 2
        assert "HOST and PORT are missing" in str(nothing.err)


async def test_sighup_applies_limits_and_certificate(tmp_path: Path) -> None:
    path, data = tmp_path / "tchat.toml", tmp_path / "data"
    make_credentials(tmp_path / "first")
    second = make_credentials(tmp_path / "second")

    def use(directory: str, limits: str) -> None:
        files = [tmp_path / directory / name for name in ("server-cert.pem", "server-key.pem")]
        write(path, data, limits, f'cert = "{files[0]}"\nkey = "{files[1]}"')

    use("first", "max_groups = 200")
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve("--config", path)
        alice = await launch.join(server.address, "alice")
        await alice.sees("alice created ops")
        use("second", "max_groups = 1")
        server.running.send_signal(signal.SIGHUP)
        await server.sees("applied the limits and the certificate")
        await alice.type("/join another")
        await alice.sees("You are in 1 groups")
        pinned = await launch.join(server.address, "bob", "--pin", pin_text(second.pin))
        await pinned.sees("Waiting for alice")
        path.write_text("[limits]\nmax_groups = 0\n")
        server.running.send_signal(signal.SIGHUP)
        await server.sees("the reload failed, and nothing was applied: ")
        assert await server.stop() == 0


async def test_a_reload_cannot_change_other_keys(tmp_path: Path) -> None:
    """Such as one that would turn TLS off on a public address."""
    path, data = tmp_path / "tchat.toml", tmp_path / "data"
    write(path, data)
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve("--config", path)
        write(path, data, "max_groups = 1", 'no_tls = true\nlog_format = "json"')
        server.running.send_signal(signal.SIGHUP)
        await server.sees("log_format, no_tls cannot change without a restart")
        alice = await launch.join(server.address, "alice")
        await alice.sees("alice created ops")
        await alice.type("/join another")
        await alice.sees("alice created another")
        assert await server.stop() == 0


async def test_no_file_can_end_a_running_server(tmp_path: Path) -> None:
    path, data = tmp_path / "tchat.toml", tmp_path / "data"
    write(path, data)
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve("--config", path)
        for text in ('data = "\\u0000"', "port = " + 5000 * "1", 3000 * "["):
            path.write_text(text)
            server.running.send_signal(signal.SIGHUP)
            await server.sees("the reload failed, and nothing was applied: ")
        assert await server.stop() == 0


FAULTY = """
import os, signal, sys
from pathlib import Path
import trio
from tchat.net.address import Address
from tchat.server.app import ServerConfig, run_server
from tchat.server.log import Log

def read_again():
    os.kill(os.getpid(), signal.SIGTERM)  # handled after this reload
    raise ZeroDivisionError("a fault")

trio.run(run_server, ServerConfig(Address("127.0.0.1", 0), Path(sys.argv[1])), Log(), read_again)
"""


def test_an_unexpected_error_while_reloading_is_logged(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FAULTY, str(tmp_path / "data")], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert "listening" in server.stdout.readline()
        server.send_signal(signal.SIGHUP)
        out, _ = server.communicate(timeout=GUARD)
    assert "the reload failed, and nothing was applied: ZeroDivisionError: a fault" in out
    assert server.returncode == 0


async def test_sighup_renews_the_certificate_without_a_file(tmp_path: Path) -> None:
    make_credentials(tmp_path / "used")
    renewed = make_credentials(tmp_path / "renewed")
    used = [tmp_path / "used" / name for name in ("server-cert.pem", "server-key.pem")]
    async with launching(tmp_path, tls=True) as launch:
        server = await launch.serve("--cert", used[0], "--key", used[1])
        for file in used:
            (tmp_path / "renewed" / file.name).replace(file)
        server.running.send_signal(signal.SIGHUP)
        await server.sees("applied the limits and the certificate")
        alice = await launch.join(server.address, "alice", "--pin", pin_text(renewed.pin))
        await alice.sees("alice created ops")
        assert await server.stop() == 0
