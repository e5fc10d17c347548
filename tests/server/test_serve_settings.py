"""The settings file of `tchat serve`, and reloading it with SIGHUP."""

from __future__ import annotations

import signal
import tomllib
from pathlib import Path

import pytest

from tchat.core.fingerprints import pin_text
from tchat.core.pace import Rate
from tchat.errors import Code, StartupError
from tchat.net.tls import make_credentials
from tchat.server.limits import LIMIT_KEYS
from tchat.server.settings import EXAMPLE, read_serve_file, read_serve_settings
from tchat.settings_file import InvalidSettingError
from tests.processes import launching


def test_the_example_is_valid() -> None:
    found = read_serve_settings(tomllib.loads(EXAMPLE))
    assert (found["host"], found["port"], found["data"]) == ("0.0.0.0", 7777, Path("/srv/tchat"))  # noqa: S104
    assert found["limit_messages"] == Rate(20, 50)
    assert found["limit_file"] == 1 << 30


def test_every_option_is_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    """Besides the file itself and the help."""
    from tchat.cli import parser

    with pytest.raises(SystemExit):
        parser().parse_args(["serve", "--help"])
    words = capsys.readouterr().out.split()
    flags = {
        word.strip(",[]").removeprefix("--").replace("-", "_") for word in words if "--" in word
    }
    for flag in flags - {"config", "help"} - {w for w in flags if not w.isidentifier()}:
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
        (
            'log_format = "xml"',
            """log_format is 'xml'; expected one of "text", "json", "journal\"""",
        ),
        ("limits = 3", "limits is 3; expected a table"),
        ('[limits]\nmax_fil = "1G"', "unknown key 'limits.max_fil' (did you mean 'max_file'?)"),
        ('[limits]\nmax_file = "1X"', "limits.max_file: '1X' is not a size; examples: 4096, 500M"),
        ("[limits]\nrate_limit = true", "limits.rate_limit is True; expected text"),
        ("= 1", "the file is not TOML: "),
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
        server = await launch.tchat("serve", "127.0.0.1", 0, "--config", path)
        await server.sees('"event": "listening"')
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
        await server.sees("the settings file is not applied: ")
        assert await server.stop() == 0
