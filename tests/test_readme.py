"""The documents are checked against the code: tables, links, names, command lines, numbers."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from tchat.cli import parser
from tchat.client.authenticate import closing_error
from tchat.client.files.automatic import FILE_LIMIT
from tchat.client.files.queue import AT_ONCE
from tchat.core import text as core_text
from tchat.core.group import feature, membership, settings, snapshots, state
from tchat.core.protocol import framing, handshake
from tchat.core.protocol.frames import AWAY_LIMIT, Goodbye
from tchat.errors import Code, Refused
from tchat.server import accounts, costs, ledger, limits, tickets
from tchat.store.base import BACK_LIMIT
from tests import picture, readme
from tests.command_lines import first_command

if TYPE_CHECKING:
    from pathlib import Path

ROOT = readme.ROOT
DOCUMENTS = [
    *sorted(path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"),
    *sorted(ROOT.glob(".github/*.md")),
    *sorted(path for top in ("examples", "tchat", "tests") for path in (ROOT / top).rglob("*.md")),
]
"""Every document that describes the present code; the change log also describes older code."""

PARTS = [(path, name) for path, parts in readme.documents().items() for name in parts]
LINES_OF_README = 300
PROTOCOL = ROOT / "tchat" / "core" / "protocol" / "PROTOCOL.md"

every_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def references(path: Path) -> list[tuple[str, str]]:
    """Return every source file that a document names, and the name after "::", if there is one.

    Paths are written as `server/groups/actor.py` or `server/groups/actor.py::GroupActor.run`.
    """
    text = path.read_text(encoding="utf-8")
    return re.findall(r"`([\w./-]+\.(?:py|cddl))(?:::([\w.]+))?`", text)


def find(document: Path, file: str) -> Path | None:
    """Return the file that a document means: beside itself, below tchat, or below the root."""
    for base in (document.parent, ROOT / "tchat", ROOT):
        if (base / file).is_file():
            return base / file
    return None


def names_in(path: Path) -> set[str]:
    """Return the classes, functions and constants of a module, and methods as "Class.method"."""
    found: set[str] = set()

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else []
            if isinstance(node, ast.AnnAssign):
                targets = [node.target]
            found.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    visit(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return found


@pytest.mark.parametrize(("path", "name"), PARTS)
def test_generated_part_is_up_to_date(path: str, name: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert readme.marked(text, name) == readme.documents()[path][name](), (
        "run: python -m tests.readme"
    )


@every_document
def test_no_marker_is_left_without_generator(path: Path) -> None:
    marked = re.findall(r"<!-- end (\w+) -->", path.read_text(encoding="utf-8"))
    assert set(marked) == set(readme.documents().get(str(path.relative_to(ROOT)), {}))


@every_document
def test_links_are_valid(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    files = [link.partition("#")[0] for link in links]
    assert [file for file in files if file and not (path.parent / file).exists()] == []


@every_document
def test_links_to_headings_are_valid(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for file, heading in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", text):
        there = (path.parent / file).read_text(encoding="utf-8") if file else text
        titles = re.findall(r"^#+ (.+)$", there, re.MULTILINE)
        assert heading in {re.sub(r"[^\w\- ]", "", t).lower().replace(" ", "-") for t in titles}


@every_document
def test_named_files_and_functions_exist(path: Path) -> None:
    missing = []
    for file, name in references(path):
        there = find(path, file)
        if there is None or (name and name not in names_in(there)):
            missing.append(f"{file}::{name}" if name else file)
    assert missing == []


@every_document
def test_named_test_paths_exist(path: Path) -> None:
    commands = re.findall(r"pytest ((?:tests[\w/.]* ?)+)", path.read_text(encoding="utf-8"))
    named = [test for command in commands for test in command.split()]
    assert [test for test in named if not (ROOT / test).exists()] == []


@every_document
def test_tchat_command_lines_parse(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("\\\n", "")
    for found in re.findall(r"bin/python -m tchat ([^`\n]+)", text):
        # One line is in quotation marks, as an argument of tmux.
        line = found.rstrip('"') if found.count('"') % 2 else found
        assert parser().parse_args(first_command(line)).run is not None


def test_readme_is_short() -> None:
    assert len(readme.README.read_text(encoding="utf-8").splitlines()) < LINES_OF_README


def test_numbers_in_readme_match_the_code() -> None:
    text = " ".join(readme.README.read_text(encoding="utf-8").split())
    assert f"at most {feature.DEFAULT_LIMITS.files:,} files" in text
    assert AT_ONCE == 4
    assert "four at a time" in text
    assert f"up to {FILE_LIMIT >> 20} MiB" in text


def test_shares_in_server_readme_match_the_limits() -> None:
    text = " ".join((ROOT / "tchat/server/README.md").read_text(encoding="utf-8").split())
    values = limits.Limits()
    rates = (values.work_per_person, values.work_per_address, values.work)
    one, address, whole = (rate.per_second / costs.UNITS_PER_CORE for rate in rates if rate)
    assert values.logins is not None
    assert f"one person can use about {one * 100:.0f} % in the long run" in text
    assert f"an address {address * 100:.0f} %, and all together {whole * 100:.0f} %" in text
    assert f"the logins of one address ({values.logins.per_second:.0f} per second)" in text


def test_numbers_in_protocol_match_the_code() -> None:
    text = " ".join(PROTOCOL.read_text(encoding="utf-8").split())
    default = limits.Limits()
    joins, person = default.joins, default.work_per_person
    assert joins

    assert person
    for sentence in (
        f"# The tchat protocol, version {handshake.VERSION} ",
        f"The current version is {handshake.VERSION} ",
        f"in `snapshot` frames, {snapshots.PIECE_LIMIT >> 10} KiB each",
        f"`frames` has at most {BACK_LIMIT >> 10} KiB, unless a single event is larger",
        f"at most {framing.FRAME_LIMIT:,} bytes, and {framing.HANDSHAKE_LIMIT:,} until",
        f"at most {framing.ITEM_LIMIT:,} items",
        f"of the last {state.WINDOW:,} numbers",
        f"next multiple of {handshake.PIECE_SIZE:,} bytes",
        f"{handshake.CLIENT_ID_SIZE} random bytes",
        f"A ticket has {handshake.TICKET_SIZE} bytes",
        f"is valid for {tickets.TICKET_SECONDS:.0f} seconds",
        f"1 to {core_text.NAME_LIMIT} code points",
        f"at most {core_text.TEXT_LIMIT >> 10} KiB of UTF-8",
        f"one line of at most {settings.TOPIC_LIMIT} code points; empty removes",
        f"one line of at most {AWAY_LIMIT} code points, with",
        f"at most {core_text.FILE_NAME_LIMIT} bytes",
        f"for {accounts.LINK_CODE_SECONDS / 60:.0f} minutes",
        f"at most {membership.LONGEST_INVITE_MS // 86_400_000} days",
        f"{person.burst:,} at once and {person.per_second:,.0f} a second",
        f"{joins.burst} at once and {joins.per_second * 60:g} a minute",
        f"less than {state.WINDOW:,} apart",
        f"for at most {ledger.LONGEST_WAIT:.0f} seconds",
        f"within {default.handshake_seconds:.0f} seconds by default",
        f"hears nothing for {default.silence_seconds:.0f} seconds",
        f"a `search` costs {costs.COSTS['search']:.0f}",
    ):
        assert sentence in text


def test_protocol_lists_the_final_codes() -> None:
    """Final codes are those after which a client does not reconnect."""
    text = PROTOCOL.read_text(encoding="utf-8")
    found = re.search(r"jitter, except after (.+?),\swhich", text, re.DOTALL)
    assert found is not None
    final = {code.value for code in Code if isinstance(closing_error(Goodbye(code, "")), Refused)}
    assert set(re.findall(r"`(\w+)`", found[1])) == final


def test_protocol_lists_every_key_of_a_snapshot() -> None:
    text = PROTOCOL.read_text(encoding="utf-8")
    table = text.partition("### Snapshots")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`) \|", table, re.MULTILINE)
    # Optional keys are left out if they have no value.
    keys = set(state.Group(admin="alice", pinned=1).to_map())
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == keys


def test_picture_shows_the_real_screen() -> None:
    assert picture.PICTURE.read_text(encoding="utf-8") == picture.painted(), (
        "run: python -m tests.picture"
    )


@pytest.mark.parametrize("name", ["serve", "test"])
def test_one_line_sets_up_and_runs(name: str) -> None:
    text = readme.README.read_text(encoding="utf-8")
    found = re.search(rf"<!-- command: {name} -->\n```sh\n(.+)\n```", text)
    assert found is not None
    assert found[1].startswith("python3 -m venv .venv && .venv/bin/pip install -q ")


def test_top_level_holds_only_the_agreed_entries() -> None:
    allowed = {"tchat", "tests", "examples", "pyproject.toml", "README.md", "LICENSE"}
    allowed |= {"CHANGELOG.md", "build", "dist"}  # the last two are ignored by git
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith((".", "__"))}
    assert found <= allowed
