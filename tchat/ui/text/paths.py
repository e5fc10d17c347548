"""Paths as people type them: with spaces and without quotes, or several, as in a shell.

What exists as it was typed is meant as it was typed. Otherwise words are told apart as a shell
does, and what Tab offers is written so that it is understood as what it stands for.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

_SPACES = " \t\r\n"
_SPECIAL = re.compile(r"[\s\\'\"]")


def paths_in(argument: str) -> list[Path]:
    """Return the paths that an argument names: all of it, if that is there, or each word.

    Of what is not there at all, and not quoted, nobody can tell; it is taken for one.
    """
    whole = expanded(argument)
    if _exists(whole):
        return [whole]
    try:
        words = [expanded(word) for word in shlex.split(argument) if word]
    except ValueError:  # a quotation without an end is part of a name
        return [whole]
    meant = words and _is_quoted(argument)
    return words if meant or any(map(_exists, words)) else [whole]


def destination(typed: str) -> tuple[Path, str | None]:
    """Return the directory in which a file is to be, and its name there if it is to have another.

    A directory is one that exists, or ends in a slash.
    """
    path = expanded(typed)
    if not _exists(path):
        typed = _unquoted(typed)
        path = expanded(typed)
    if typed.endswith("/") or _is_directory(path):
        return path, None
    return path.parent, path.name


def expanded(typed: str) -> Path:
    """Return a path with its ~ expanded, if that is anybody's."""
    try:
        return Path(typed).expanduser()
    except RuntimeError:
        return Path(typed)


def complete_paths(begun: str) -> list[str]:
    """Return what several paths could go on to: the last of them, or all as one with spaces."""
    start, word = _last_word(begun)
    found = _quoted_paths(begun.lstrip()) if start else []
    return found + [begun[:start] + offer for offer in _quoted_paths(word)]


def complete_path(begun: str) -> list[str]:
    """Return what one path could go on to."""
    return _quoted_paths(_unquoted(begun))


def _quoted_paths(word: str) -> list[str]:
    return [_quoted(path) for path in _paths(word)]


def _paths(begun: str) -> list[str]:
    """Return the files and directories that a path could go on to; hidden ones if asked for."""
    if begun == "~":
        return ["~/"]
    head, slash, last = begun.rpartition("/")
    try:
        directory = Path(f"{head}/" if slash else ".").expanduser()
        found = sorted(path for path in directory.iterdir() if path.name.startswith(last))
        shown = [path for path in found if last.startswith(".") or not path.name.startswith(".")]
        ends = [f"{path.name}{'/' if path.is_dir() else ''}" for path in shown]
    except (OSError, RuntimeError, ValueError):
        return []
    # A name that begins with ~ is not somebody's home.
    return [f"{head}{slash}{end}" if slash or end[0] != "~" else f"./{end}" for end in ends]


def _quoted(path: str) -> str:
    """Return a path so that `paths_in` takes it for one word."""
    if path[-1].isspace():  # what ends an argument is not looked at
        return shlex.quote(path)
    return _SPECIAL.sub(lambda found: f"\\{found[0]}", path)


def _unquoted(typed: str) -> str:
    """Return one path without the signs that keep its words together."""
    if not _is_quoted(typed):
        return typed
    try:
        return " ".join(shlex.split(typed))
    except ValueError:
        return typed


def _is_quoted(typed: str) -> bool:
    return bool(set(typed) & set("\\'\""))


def _last_word(begun: str) -> tuple[int, str]:
    """Return where the last word begins, and what it stands for so far; as `shlex` has it."""
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
    except (OSError, ValueError):
        return False


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
