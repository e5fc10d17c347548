"""Client directories and files: under `TCHAT_HOME`, or in the platform's standard places."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def state_directory() -> Path:
    """Return the directory for identity, known servers, client ids and journals."""
    home = os.environ.get("TCHAT_HOME")
    return Path(home) if home else platformdirs.user_state_path("tchat", appauthor=False)


def download_directory() -> Path:
    """Return the default directory for downloaded files."""
    if os.environ.get("TCHAT_HOME"):
        return state_directory() / "downloads"
    return platformdirs.user_downloads_path() / "tchat"


def identity_file() -> Path:
    """Return the path of the person's private key."""
    return state_directory() / "identity"


def known_servers_file() -> Path:
    """Return the path of the known-servers file."""
    return state_directory() / "known_servers"
