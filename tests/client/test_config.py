"""The configuration file: every key, every error, and where it is."""

from __future__ import annotations

import tomllib
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchat.client.config.paths import config_directory, download_directory, state_directory
from tchat.client.config.settings import (
    EXAMPLE,
    Server,
    Settings,
    config_file,
    load_config,
    read_settings,
)
from tchat.client.files.budget import Budget
from tchat.errors import Code, StartupError
from tchat.settings_file import InvalidSettingError

if TYPE_CHECKING:
    from collections.abc import Callable

PIN = "sha256:Y2hhdC5leGFtcGxlLm9yZyBzYWlkIHRoYXQgaXQgaXM"


def read(directory: Path, text: str | bytes) -> Settings:
    path = directory / "config.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(path)


def complaint(directory: Path, text: str | bytes) -> str:
    """Return the error for a file with this content, without the file's name."""
    with pytest.raises(StartupError) as caught:
        read(directory, text)
    assert caught.value.code == Code.BAD_CONFIG
    name, _, rest = str(caught.value).partition(": ")
    assert name == str(directory / "config.toml")
    assert rest.endswith(".")
    assert "\n" not in rest
    return rest.removesuffix(".")


# ------------------------------------------------------------------ valid files


def test_configuration_file_is_optional(tmp_path: Path) -> None:
    assert load_config(tmp_path / "config.toml") == Settings()
    assert read(tmp_path, "") == Settings()


def test_every_setting_is_read(tmp_path: Path) -> None:
    work = Server(
        "chat.example.org", 7777, "alice.b", ("ops", "lab"), b"chat.example.org said that it is"
    )
    assert read(tmp_path, EXAMPLE) == Settings(
        user="alice",
        group="ops",
        plain=False,
        downloads=Path.home() / "Downloads" / "tchat",
        notifications="auto",
        colours={"mention": "bold #ff8700", "url": "underline colour 39", "title": "reverse"},
        keys={"C-n": "next-window", "F7": ""},
        mute=("noise",),
        ignore=("mallory",),
        automatic=Budget(files=100, megabytes=200, free=512),
        servers={"work": work},
    )


def test_example_has_every_key() -> None:
    example = tomllib.loads(EXAMPLE)
    assert example.keys() == {field.name for field in fields(Settings)}
    assert example["automatic"].keys() == {field.name for field in fields(Budget)}
    assert example["servers"]["work"].keys() == {field.name for field in fields(Server)}


def test_the_budget_has_defaults_and_bounds(tmp_path: Path) -> None:
    assert read(tmp_path, "[automatic]\nfiles = 0\n").automatic == Budget(files=0)
    number = "expected a whole number"
    assert number in complaint(tmp_path, "[automatic]\nfree = -1\n")
    assert number in complaint(tmp_path, '[automatic]\nmegabytes = "many"\n')


def test_a_server_needs_a_host_and_a_port(tmp_path: Path) -> None:
    home = read(tmp_path, '[servers.home]\nhost = "::1"\nport = 1\n').servers["home"]
    assert home == Server("::1", 1)
    assert complaint(tmp_path, '[servers.home]\nhost = "a"') == "servers.home has no port"
    assert complaint(tmp_path, "[servers.home]\nport = 1") == "servers.home has no host"


def test_host_may_be_written_as_printed(tmp_path: Path) -> None:
    for host in ("[::1]", "[::1]:1"):
        text = f'[servers.home]\nhost = "{host}"\nport = 1\n'
        assert read(tmp_path, text).servers["home"] == Server("::1", 1)
    short = read(tmp_path, '[servers.home]\nhost = "[::1]:7777"\n')
    assert short.servers["home"] == Server("::1", 7777)
    both = '[servers.home]\nhost = "[::1]:7777"\nport = 1\n'
    assert complaint(tmp_path, both) == "servers.home has another port in its host"
    far = '[servers.home]\nhost = "[::1]:77777"\n'
    assert complaint(tmp_path, far).startswith("servers.home.host is 77777; expected a number")


@pytest.mark.parametrize("setting", ["auto", "bell", "off"])
def test_notifications_have_three_settings(tmp_path: Path, setting: str) -> None:
    assert read(tmp_path, f'notifications = "{setting}"').notifications == setting


def test_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    assert read(tmp_path, b'\xef\xbb\xbfuser = "alice"\r\n').user == "alice"


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("usr = 'alice'", "unknown key 'usr' (did you mean 'user'?)"),
        ("[colors]\na = 'red'", "unknown key 'colors' (did you mean 'colours'?)"),
        ("[servers.a]\nhots = 'x'", "unknown key 'servers.a.hots' (did you mean 'host'?)"),
        ("q = 1", "unknown key 'q' (known: user, group, plain, downloads, "),
        ("user = 7", "user is 7; expected text in quotation marks"),
        ("user = ' '", "user is empty; remove the line instead"),
        ("user = 'not a name'", "user is 'not a name'; A username may contain letters"),
        ("group = 'a b'", "group is 'a b'; A group name may contain letters"),
        ("plain = 1", "plain is 1; expected true or false"),
        ("plain = 'yes'", "plain is 'yes'; expected true or false"),
        ("downloads = '~nobody.of.that.name/x'", "downloads is '~nobody.of.that.name/x'; there is"),
        (
            "notifications = 'loud'",
            "notifications is 'loud'; expected one of auto, bell, off",
        ),
        ("notifications = []", "notifications is []; expected one of auto, bell, off"),
        ("mute = 'noise'", "mute is 'noise'; expected a list"),
        ("mute = ['noise', 3]", "mute[1] is 3; expected text in quotation marks"),
        ("ignore = ['!']", "ignore[0] is '!'; A username may contain letters"),
        ("colours = 'red'", "colours is 'red'; expected a table"),
        ("[colours]\nurl = 4", "colours.url is 4; expected text in quotation marks"),
        ("[keys]\nC-n = true", "keys.C-n is True; expected an action in quotation marks"),
        ("servers = 3", "servers is 3; expected a table"),
        ("[servers]\na = 'host:1'", "servers.a is 'host:1'; expected a table"),
        (
            "[servers.a]\nport = '1'",
            "servers.a.port is '1'; expected a number from 1 to 65535",
        ),
        ("[servers.a]\nport = 0", "servers.a.port is 0; expected a number from 1 to 65535"),
        ("[servers.a]\nport = true", "servers.a.port is True; expected a number from 1"),
        ("[servers.a]\npin = 'sha1:x'", "servers.a.pin: a pin is sha256: and 43 letters"),
        ("[servers.a]\ngroups = ['b c']", "servers.a.groups[0] is 'b c'; A group name may contain"),
        ("user = 'a'\nuser = 'b'", "the file is not TOML: Cannot overwrite a value (at "),
        ("user = ", "the file is not TOML: Invalid value (at "),
        (b"user = '\xff'", "the file is not valid UTF-8"),
    ],
)
def test_invalid_settings_are_reported(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert complaint(tmp_path, text).startswith(said)


def test_unreadable_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(
        StartupError, match=r"config\.toml: the file cannot be read: Is a directory"
    ):
        load_config(tmp_path / "config.toml")


_VALUES = st.recursive(
    st.text(max_size=3) | st.integers() | st.booleans() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.sampled_from([field.name for field in fields(Settings)]), _VALUES)
def test_any_content_is_read_or_reported(key: str, value: object) -> None:
    with suppress(InvalidSettingError):
        read_settings({key: value})


# ------------------------------------------------------------------ its path


def test_file_is_in_the_config_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TCHAT_HOME", str(tmp_path))
    assert config_file() == tmp_path / "config.toml"
    monkeypatch.delenv("TCHAT_HOME")
    assert config_file().parts[-2:] == ("tchat", "config.toml")


@pytest.mark.parametrize("path_of", [state_directory, config_directory, download_directory])
def test_unknown_home_directory_is_reported(
    path_of: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Services and containers may have no home directory: an error in one line, no traceback."""

    def unknown(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("TCHAT_HOME", raising=False)
    for name in ("user_state_path", "user_config_path", "user_downloads_path"):
        monkeypatch.setattr(platformdirs, name, unknown)
    with pytest.raises(StartupError, match="TCHAT_HOME"):
        path_of()
    monkeypatch.setenv("TCHAT_HOME", "here")
    assert path_of().parts[0] == "here"
