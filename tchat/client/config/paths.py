"""Where a client keeps what is its own: `TCHAT_HOME`, or the places this platform has for it."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def state_directory() -> Path:
    """Return the directory of the client's state."""
    home = os.environ.get("TCHAT_HOME")
    return Path(home) if home else platformdirs.user_state_path("tchat", appauthor=False)


def download_directory() -> Path:
    """Return where received files go unless the person says otherwise."""
    if os.environ.get("TCHAT_HOME"):
        return state_directory() / "downloads"
    return platformdirs.user_downloads_path() / "tchat"


def identity_file() -> Path:
    """Return where the person's private key is."""
    return state_directory() / "identity"


def known_servers_file() -> Path:
    """Return where the servers are remembered that were met."""
    return state_directory() / "known_servers"
