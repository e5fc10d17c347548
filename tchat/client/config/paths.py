"""Client directories and files: under a given home, `TCHAT_HOME`, or the platform's directories."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from tchat.errors import Code, StartupError

if TYPE_CHECKING:
    from collections.abc import Callable


def state_directory(home: Path | None = None) -> Path:
    """Return the directory for identity, known servers, client ids and journals."""
    return home or _under_home() or _platform_path(platformdirs.user_state_path)


def config_directory(home: Path | None = None) -> Path:
    """Return the directory of the settings file."""
    return home or _under_home() or _platform_path(platformdirs.user_config_path)


def download_directory() -> Path:
    """Return the default directory for downloaded files."""
    home = _under_home()
    return home / "downloads" if home else _platform_path(platformdirs.user_downloads_path)


def identity_file(home: Path | None = None) -> Path:
    """Return the path of the person's private key."""
    return state_directory(home) / "identity"


def known_servers_file(home: Path | None = None) -> Path:
    """Return the path of the known-servers file."""
    return state_directory(home) / "known_servers"


def preferences_file() -> Path:
    """Return the path of the remembered preferences: ignored people, muted groups."""
    return state_directory() / "preferences.json"


def searched_file() -> Path:
    """Return the path of the record of what was searched for new messages at earlier starts."""
    return state_directory() / "searched.json"


def known_keys_file() -> Path:
    """Return the path of the record of the keys of the person's name on each server."""
    return state_directory() / "known_keys.json"


def saved_files_file() -> Path:
    """Return the path of the record of saved files, and of what was saved automatically today."""
    return state_directory() / "saved_files.json"


def last_names_file() -> Path:
    """Return the path of the names that were last used with each server."""
    return state_directory() / "last_names.json"


def _under_home() -> Path | None:
    home = os.environ.get("TCHAT_HOME")
    return Path(home) if home else None


def _platform_path(path_of: Callable[[], Path]) -> Path:
    """Return tchat's directory in a standard one of the platform. Raises `StartupError`.

    The platform needs a home directory, which a service or a container may not have.
    """
    try:
        return path_of() / "tchat"
    except RuntimeError as error:
        raise StartupError(
            Code.CANNOT_START,
            "Your home directory is unknown. Set TCHAT_HOME to a directory for tchat's files.",
        ) from error
