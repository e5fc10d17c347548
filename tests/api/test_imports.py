"""`import tchat` imports nothing but itself; its names are those that it lists."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tchat
import tchat.api.groups


def loaded_by(statements: str) -> set[str]:
    """Return the modules that are loaded after these statements, in a new interpreter."""
    command = [sys.executable, "-c", f"import sys; {statements}; print(*sys.modules)"]
    return {*subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()}


def test_import_loads_no_other_module() -> None:
    own = {name for name in loaded_by("import tchat") if name.startswith("tchat")}
    assert own == {"tchat"}
    assert loaded_by("import tchat") - loaded_by("import __future__, importlib, typing") == {
        "tchat"
    }


def test_connect_loads_neither_server_nor_screen() -> None:
    loaded = loaded_by("import tchat; tchat.connect")
    unwanted = ("tchat.server", "tchat.store", "tchat.ui", "curses", "argparse", "asyncio")
    assert {name for name in loaded if name.startswith(unwanted)} == set()


@pytest.mark.parametrize("name", tchat.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    value = getattr(tchat, name)
    assert name == "__version__" or value.__doc__ or name == "Notice"


def test_every_event_and_notice_is_public() -> None:
    kinds = {one.__name__ for one in tchat.Event.__subclasses__()}
    notices = {one.__name__ for one in tchat.Notice.__args__}
    assert (kinds | notices) <= set(tchat.__all__) == set(dir(tchat))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'tchat' has no attribute 'conect'"):
        getattr(tchat, "conect")  # noqa: B009
