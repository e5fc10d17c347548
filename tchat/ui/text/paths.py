"""Parse typed file paths (spaces, quotes, ~) and complete them with Tab.

Text that names an existing file is taken literally, spaces and quotes included. Otherwise it is
split into words as a shell would (`shlex`), and what Tab inserts is quoted so that it parses back
to the same path.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tchat.client.native_paths import native, readable

_SPACES = " \t\r\n"
_SPECIAL = re.compile(r"[\s\\'\"]")


def parse_paths(argument: str) -> list[Path]:
    """Return the paths in an argument: the whole argument if that exists, otherwise its words.

    If none of these exist and nothing is quoted, the argument is ambiguous and taken as one path.
    """
    whole = expand_home(argument)
    if _exists(whole):
        return [whole]
    try:
        words = [expand_home(word) for word in shlex.split(argument) if word]
    except ValueError:  # an unclosed quote is part of a name
        return [whole]
    several = words and (_is_quoted(argument) or any(map(_exists, words)))
    return words if several else [whole]


def parse_destination(typed: str) -> tuple[Path, str | None]:
    """Return the directory to save a file in, and the name to save it under, None to keep its own.

    A path is a directory if it exists as one, or ends in a slash.
    """
    path = expand_home(typed)
    if not _exists(path):
        typed = _unquote(typed)
        path = expand_home(typed)
    if typed.endswith("/") or _is_directory(path):
        return path, None
    return path.parent, path.name


def expand_home(typed: str) -> Path:
    """Return a path with ~ or ~user expanded, or unchanged if there is no such user."""
    try:
        return Path(native(typed)).expanduser()
    except RuntimeError:
        return Path(native(typed))


def complete_paths(begun: str) -> list[str]:
    """Return the completions of the last word, and of the whole text as one path with spaces."""
    start, word = _last_word(begun)
    found = _quoted_matches(begun.lstrip()) if start else []
    return found + [begun[:start] + offer for offer in _quoted_matches(word)]


def complete_path(begun: str) -> list[str]:
    """Return the completions of a single path."""
    return _quoted_matches(_unquote(begun))


def _quoted_matches(word: str) -> list[str]:
    return [_quote(path) for path in _matches(word)]


def _matches(begun: str) -> list[str]:
    """Return the paths that begin with the typed text; hidden ones only after a dot."""
    if begun == "~":
        return ["~/"]
    head, slash, last = begun.rpartition("/")
    try:
        directory = Path(native(f"{head}/" if slash else ".")).expanduser()
        found = sorted(path for path in directory.iterdir() if path.name.startswith(native(last)))
        shown = [path for path in found if last.startswith(".") or not path.name.startswith(".")]
        ends = [f"{readable(path.name)}{'/' if path.is_dir() else ''}" for path in shown]
    except (OSError, RuntimeError, ValueError):
        return []
    # A file name that begins with ~ must not be expanded as a home directory.
    return [f"{head}{slash}{end}" if slash or end[0] != "~" else f"./{end}" for end in ends]


def _quote(path: str) -> str:
    """Return a path escaped so that `parse_paths` reads it as one word."""
    if path[-1].isspace():  # stripping the argument would remove a space after a backslash
        return shlex.quote(path)
    return _SPECIAL.sub(lambda found: f"\\{found[0]}", path)


def _unquote(typed: str) -> str:
    """Return one path without its quotes and backslashes."""
    if not _is_quoted(typed):
        return typed
    try:
        return " ".join(shlex.split(typed))
    except ValueError:
        return typed


def _is_quoted(typed: str) -> bool:
    return bool(set(typed) & set("\\'\""))


def _last_word(begun: str) -> tuple[int, str]:
    """Return where the last word begins, and its unquoted text.

    Splits like `shlex`, but accepts open quotes.
    """
    start, word, quote, escaped = 0, "", "", False
    for index, character in enumerate(begun):
        if escaped:
            kept = "\\" if quote and character not in ("\\", quote) else ""
            word, escaped = word + kept + character, False
        elif character == "\\" and quote != "'":
            escaped = True
        elif quote:
            word, quote = (word, "") if character == quote else (word + character, quote)
        elif character in "'\"":
            quote = character
        elif character in _SPACES:
            start, word = index + 1, ""
        else:
            word += character
    return start, word


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for the file system, or with a NUL in it
        return False


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
