"""`tchat completion`: completion scripts for bash, zsh and fish, made from the parser."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, NamedTuple

from tchat.cli.arguments import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DESCRIPTION = """\
Print a script that lets a shell complete the commands and options of tchat, and
file names where they belong. A package of tchat contains the three scripts, so
this is needed only if your shell does not find them.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tchat completion`."""
    explain(
        parser,
        _DESCRIPTION,
        ("tchat completion bash > ~/.local/share/bash-completion/completions/tchat", "bash"),
        ("tchat completion zsh > ~/.zfunc/_tchat", "zsh, with ~/.zfunc in fpath"),
        ("tchat completion fish > ~/.config/fish/completions/tchat.fish", "fish"),
    )
    parser.add_argument("shell", choices=list(SCRIPTS), metavar="SHELL", help="bash, zsh or fish")
    parser.set_defaults(run=_completion)


def _completion(given: argparse.Namespace) -> int:
    from tchat.cli.command_line import parser
    from tchat.streams import print_line

    print_line(script(given.shell, parser()).rstrip("\n"))
    return 0


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """Return the completion script of a shell, for the command line of a parser."""
    return SCRIPTS[shell](list(commands_of(parser)))


class Option(NamedTuple):
    """An option: its names, whether a value follows, and what the value can be."""

    names: tuple[str, ...]
    takes_value: bool
    choices: tuple[str, ...]
    is_path: bool
    help: str


class Command(NamedTuple):
    """A command: the words that select it (none for tchat itself), and what can follow them."""

    words: tuple[str, ...]
    help: str
    subcommands: tuple[tuple[str, str], ...]
    options: tuple[Option, ...]
    values: tuple[str, ...]
    takes_paths: bool


def commands_of(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = (), summary: str = ""
) -> Iterator[Command]:
    """Yield a command and all its subcommands."""
    inner: dict[str, argparse.ArgumentParser] = {}
    summaries: dict[str, str] = {}
    options: list[Option] = []
    values: tuple[str, ...] = ()
    takes_paths = False
    for action in parser._actions:  # noqa: SLF001  # argparse has no public way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # as above
            inner = action.choices
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001  # as above
        elif action.option_strings:
            options.append(_option(action))
        else:
            values += tuple(map(str, action.choices or ()))
            takes_paths = takes_paths or _is_path(action)
    subcommands = tuple(summaries.items())
    yield Command(words, summary, subcommands, tuple(options), values, takes_paths)
    for name, deeper in inner.items():
        yield from commands_of(deeper, (*words, name), summaries.get(name, ""))


def _option(action: argparse.Action) -> Option:
    text = str(action.help or "") % {"default": action.default, "prog": "tchat"}
    choices = tuple(map(str, action.choices or ()))
    names = tuple(action.option_strings)
    return Option(names, action.nargs != 0, choices, _is_path(action), text.partition(" (")[0])


def _is_path(action: argparse.Action) -> bool:
    return action.metavar in ("PATH", "FILE", "DIR")


# ------------------------------------------------------------------ bash


def _bash(commands: list[Command]) -> str:
    return f"""\
# Completion of tchat for bash, made by: tchat completion bash
_tchat() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    local command="" at
    for ((at = 1; at < COMP_CWORD; at++)); do
        case "$command ${{COMP_WORDS[at]}}" in
            {_bash_commands(commands)}) command="$command ${{COMP_WORDS[at]}}" ;;
        esac
    done
    COMPREPLY=()
    case "$command $before" in
{_bash_values(commands)}
    esac
    case "$command" in
{"".join(map(_bash_words, commands))}    esac
}}
complete -F _tchat tchat
"""


def _bash_commands(commands: list[Command]) -> str:
    return "|".join(f'" {" ".join(command.words)}"' for command in commands if command.words)


def _bash_values(commands: list[Command]) -> str:
    lines = []
    for command in commands:
        for option in command.options:
            if not option.takes_value:
                continue
            start = "".join(f" {word}" for word in command.words)
            cases = "|".join(f'"{start} {name}"' for name in option.names)
            if option.is_path:
                does = 'compopt -o filenames; COMPREPLY=($(compgen -f -- "$word"))'
            elif option.choices:
                does = f'COMPREPLY=($(compgen -W "{" ".join(option.choices)}" -- "$word"))'
            else:
                does = ":"
            lines.append(f"        {cases}) {does}; return ;;")
    return "\n".join(lines)


def _bash_words(command: Command) -> str:
    names = [name for name, _ in command.subcommands]
    names += [name for option in command.options for name in option.names]
    names += command.values
    start = "".join(f" {word}" for word in command.words)
    lines = [f'        "{start}")']
    if command.takes_paths:
        lines.append("            compopt -o filenames")
        lines.append('            [[ $word == -* ]] || COMPREPLY=($(compgen -f -- "$word"))')
    lines.append(f'            COMPREPLY+=($(compgen -W "{" ".join(names)}" -- "$word")) ;;')
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------ zsh


def _zsh(commands: list[Command]) -> str:
    functions = "\n".join(map(_zsh_function, commands))
    title = "# Completion of tchat for zsh, made by: tchat completion zsh"
    return f'#compdef tchat\n{title}\n{functions}\n_tchat "$@"\n'


def _zsh_function(command: Command) -> str:
    specs = [spec for option in command.options for spec in _zsh_option(option)]
    name = "_".join(("_tchat", *command.words)).replace("-", "_")
    if not command.subcommands:
        if command.values:
            specs.append(_quoted(f"1:value:({' '.join(command.values)})"))
        specs.append(_quoted("*:path:_files") if command.takes_paths else _quoted("*: :"))
        return f"{name}() {{\n    _arguments -s {_continued(specs)}\n}}"
    rows = [_quoted(f"{word}:{help_}") for word, help_ in command.subcommands]
    cases = "".join(
        f"            {word}) {name}_{word.replace('-', '_')} ;;\n"
        for word, _ in command.subcommands
    )
    specs += ["'1: :->command'", "'*:: :->rest'"]
    return f"""\
{name}() {{
    local state line
    local -a commands=({_continued(rows)})
    _arguments -C {_continued(specs)}
    case $state in
        command) _describe command commands ;;
        rest) case $line[1] in
{cases}        esac ;;
    esac
}}"""


def _zsh_option(option: Option) -> Iterator[str]:
    for name in option.names:
        text = option.help.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
        value = ""
        if option.takes_value:
            values = f"({' '.join(option.choices)})" if option.choices else ""
            value = f":value:{'_files' if option.is_path else values}"
        yield _quoted(f"{name}[{text.replace(':', ' ')}]{value}")


def _continued(words: list[str]) -> str:
    return " \\\n        ".join(["", *words]).lstrip(" ")


def _quoted(text: str) -> str:
    return shlex.quote(text) if "'" in text else f"'{text}'"


# ------------------------------------------------------------------ fish


def _fish(commands: list[Command]) -> str:
    lines = [
        "# Completion of tchat for fish, made by: tchat completion fish",
        "complete -c tchat -f",
    ]
    for command in commands:
        condition = _fish_condition(command)
        for word, text in command.subcommands:
            lines.append(f"complete -c tchat {condition} -a {word} -d {_quoted(text)}")
        if command.values:
            lines.append(f"complete -c tchat {condition} -a {_quoted(' '.join(command.values))}")
        if command.takes_paths:
            lines.append(f"complete -c tchat {condition} -F")
        lines += [_fish_option(condition, option) for option in command.options]
    return "\n".join(lines) + "\n"


def _fish_condition(command: Command) -> str:
    if not command.words:
        return "-n __fish_use_subcommand"
    tests = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in command.words)
    names = " ".join(name for name, _ in command.subcommands)
    if names:
        tests += f"; and not __fish_seen_subcommand_from {names}"
    return f"-n '{tests}'"


def _fish_option(condition: str, option: Option) -> str:
    words = [f"complete -c tchat {condition}"]
    words += [f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in option.names]
    if option.takes_value:
        words.append("-r")
        words.append("-F" if option.is_path else f"-a {_quoted(' '.join(option.choices))}")
    return " ".join([*words, f"-d {_quoted(option.help)}"])


SCRIPTS: dict[str, Callable[[list[Command]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
"""The function that writes the script of each shell."""
