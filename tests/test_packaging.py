"""Wheel and sdist: what they contain, and that tchat runs from each in a fresh environment."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest

from tchat import __version__
from tests import manual

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
SHARED = {
    "share/man/man1/tchat.1": "tchat.1",
    "share/bash-completion/completions/tchat": "tchat.bash",
    "share/zsh/site-functions/_tchat": "_tchat",
    "share/fish/vendor_completions.d/tchat.fish": "tchat.fish",
}
"""Where man and the shells look, below the prefix of the installation, and the file in DATA."""


def run(*command: object, where: Path, **options: str) -> str:
    """Run a program, without the settings of this environment; return its standard output."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "TCHAT_", "VIRTUAL_ENV"))
    }
    done = subprocess.run(
        [*map(str, command)],
        cwd=where,
        env={**environment, "TCHAT_HOME": str(where / "home"), **options},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a wheel and an sdist, made from the source tree."""
    target = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", target, where=ROOT)
    return target


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def unpacked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the source tree from the sdist."""
    (path,) = built.glob("*.tar.gz")
    target = tmp_path_factory.mktemp("source")
    with tarfile.open(path) as archive:
        archive.extractall(target, filter="data")
    (root,) = target.iterdir()
    return root


def files_of(path: Path) -> set[str]:
    with ZipFile(path) as archive:
        return set(archive.namelist())


def test_wheel_contains_the_package_and_nothing_else(wheel: Path) -> None:
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tchat").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    shared = {f"tchat-{__version__}.data/data/{name}" for name in SHARED}
    about = f"tchat-{__version__}.dist-info/"
    found = {name for name in files_of(wheel) if not name.startswith(about)}
    assert "tchat/py.typed" in package
    assert found == package | shared


def test_wheel_has_current_manual_and_completions(wheel: Path) -> None:
    generators = manual.files()
    with ZipFile(wheel) as archive:
        for name, source in SHARED.items():
            data = archive.read(f"tchat-{__version__}.data/data/{name}").decode()
            assert data == generators[source](), f"{source}: run python -m tests.readme"


def test_sdist_contains_the_repository(unpacked: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is not the repository")
    listed = run("git", "ls-files", "-co", "--exclude-standard", where=ROOT).splitlines()
    expected = {name for name in listed if (ROOT / name).exists()}
    found = {
        path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()
    }
    assert expected - found == set()
    assert found - expected == {"PKG-INFO"}


def test_sdist_makes_the_same_wheel(unpacked: Path, wheel: Path) -> None:
    """Its tests run, too: these two files need the package, and data beside the tests."""
    target = unpacked.parent / "again"
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target, where=unpacked)
    (again,) = target.glob("*.whl")
    assert files_of(again) == files_of(wheel)
    tests = ("tests/test_invocation.py", "tests/core/test_vectors.py")
    run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, where=unpacked)


def test_build_system_is_the_tested_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    assert set(project["build-system"]["requires"]) <= set(extras["test"])


# ------------------------------------------------------------------ installed


def install(archive: Path, target: Path) -> Path:
    """Install an archive into a fresh environment; return the directory of its programs.

    The libraries come from the environment of the tests; its tchat is behind the installed one.
    """
    venv.create(target, with_pip=False)
    (packages,) = target.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    python = target / "bin" / "python"
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, archive, where=target)
    return python.parent


@pytest.fixture(scope="module", params=["wheel", "source"])
def programs(
    request: pytest.FixtureRequest, built: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the directory of the programs of an installation."""
    (archive,) = built.glob("*.whl" if request.param == "wheel" else "*.tar.gz")
    return install(archive, tmp_path_factory.mktemp(request.param) / "installed")


def test_installation_runs_from_its_own_files(programs: Path, tmp_path: Path) -> None:
    where = run(programs / "python", "-c", "import tchat; print(tchat.__file__)", where=tmp_path)
    assert Path(where).is_relative_to(programs.parent)
    assert run(programs / "tchat", "--version", where=tmp_path) == f"tchat {__version__}\n"
    assert "serve" in run(programs / "tchat", "--help", where=tmp_path)
    module = run(programs / "python", "-m", "tchat", "--version", where=tmp_path)
    assert module == f"tchat {__version__}\n"
    for name in SHARED:
        assert (programs.parent / name).is_file()


@contextmanager
def serving(*command: object, where: Path, path: str) -> Iterator[list[str]]:
    """Run a server; give the lines that it prints first, to the command for joining."""
    arguments = (*command, "serve", "127.0.0.1", "0", "--data", where / "data")
    environment = {**os.environ, "PATH": path}
    with subprocess.Popen(
        [*map(str, arguments)], cwd=where, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines: list[str] = []
            while not lines or " to join: " not in lines[-1]:
                lines.append(process.stdout.readline())
                assert lines[-1], lines
            yield lines
        finally:
            process.terminate()
            process.wait(30)


@pytest.mark.parametrize(
    ("programs", "start"),
    [
        ("wheel", "in the path"),
        ("wheel", "by its path"),
        ("wheel", "as a module"),
        ("source", "in the path"),
    ],
    indirect=["programs"],
)
def test_installation_chats_as_its_server_says(programs: Path, tmp_path: Path, start: str) -> None:
    """The command that the server prints joins; then scripts post and read."""
    ways: dict[str, list[object]] = {
        "in the path": ["tchat"],
        "by its path": [programs / "tchat"],
        "as a module": [programs / "python", "-m", "tchat"],
    }
    words, path = ways[start], os.environ["PATH"]
    if start == "in the path":
        path = f"{programs}{os.pathsep}{path}"
    with serving(*words, where=tmp_path, path=path) as lines:
        typed = lines[-1].partition(" to join: ")[2].strip()
        expected = shlex.join([*map(str, words), "join", "127.0.0.1"])
        assert typed.startswith(f"{expected} ")
        port, _, pin = shlex.split(typed)[-3:]
        person = ("--user", "alice", "--group", "lab")
        plain = shlex.join([*person, "--plain", "--create"])
        assert "alice created lab" in run(
            "/bin/sh", "-c", f"{typed} {plain}", where=tmp_path, PATH=path
        )
        said = (programs / "tchat", "say", f"127.0.0.1:{port}", *person, "--pin", pin)
        run(*said, "hello from the wheel", where=tmp_path)
        tail = run(programs / "tchat", "tail", *said[2:], "-n", "1", where=tmp_path)
    assert tail.endswith("<alice> hello from the wheel\n")
