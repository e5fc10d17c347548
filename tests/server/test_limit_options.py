"""The server's limits on its command line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tchat.cli import parser
from tchat.core.pace import Rate
from tchat.server.limits import Limits, limits_from, size_limit_text


def limits_of(*options: str) -> Limits:
    return limits_from(parser().parse_args(["serve", "127.0.0.1", "4000", *options]))


def test_default_options_give_default_limits() -> None:
    assert limits_of() == Limits()


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        (["--rate-limit", "5/10"], {"messages": Rate(5, 10)}),
        (["--rate-limit", "0.5/10"], {"messages": Rate(0.5, 10)}),
        (["--rate-limit", "5"], {"messages": Rate(5, 5)}),
        (["--text-limit", "60/1000"], {"texts": Rate(1, 1000)}),
        (["--join-limit", "6/3"], {"joins": Rate(0.1, 3)}),
        (["--join-limit", "off"], {"joins": None}),
        (["--max-groups", "3"], {"groups_per_user": 3}),
        (["--max-members", "3"], {"group_members": 3}),
        (["--max-requests", "3"], {"group_requests": 3}),
        (["--max-invites", "3"], {"group_invites": 3}),
        (["--max-file", "500"], {"file": 500}),
        (["--max-file", "3K"], {"file": 3 << 10}),
        (["--max-files", "2g"], {"files_per_user": 2 << 30}),
        (["--max-files", "2T"], {"files_per_user": 2 << 40}),
        (["--max-group-files", "2G"], {"files_per_group": 2 << 30}),
        (["--max-files-total", "2T"], {"files_total": 2 << 40}),
        (["--max-files-total", "unlimited"], {"files_total": None}),
        (["--disk-reserve", "500M"], {"disk_reserve": 500 << 20}),
        (["--disk-reserve", "0"], {"disk_reserve": 0}),
        (["--disk-reserve", "auto"], {"disk_reserve": None}),
        (["--max-transfers", "9"], {"transfers": 9}),
        (["--min-transfer-rate", "2K"], {"transfer_rate": 2048}),
        (["--keep-files", "90d"], {"keep_files": 90 * 24 * 3_600_000}),
        (["--keep-files", "12h"], {"keep_files": 12 * 3_600_000}),
        (["--keep-files", "forever"], {"keep_files": None}),
        (["--handshake-time", "2.5"], {"handshake_seconds": 2.5}),
        (["--max-strangers", "9"], {"unauthenticated": 9}),
        (["--max-strangers-each", "9"], {"unauthenticated_per_address": 9}),
    ],
)
def test_option_changes_its_own_limit_only(options: list[str], changed: dict[str, object]) -> None:
    assert limits_of(*options) == replace(Limits(), **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("50M", "50M (52.4 MB)"),
        ("1G", "1G (1.1 GB)"),
        ("3K", "3K (3.1 KB)"),
        ("500", "500 B"),
        ("1500", "1.5 KB"),
    ],
)
def test_size_limit_is_told_as_typed(typed: str, told: str) -> None:
    assert size_limit_text(limits_of("--max-file", typed).file) == told


def test_rate_limit_off_lifts_all_rates() -> None:
    assert limits_of("--rate-limit", "off", "--max-groups", "3") == replace(
        Limits().without_rates(), groups_per_user=3
    )


@pytest.mark.parametrize(
    ("option", "nonsense"),
    [
        *(
            (option, text)
            for option in ("--rate-limit", "--text-limit", "--join-limit")
            for text in ("", "fast", "0", "0/5", "5/0", "-1/5", "5/-1", "5/2.5", "nan/5", "inf/5")
        ),
        ("--rate-limit", "1e7/5"),
        ("--rate-limit", "5/10000000"),
        ("--rate-limit", "OFF"),
        *(
            (option, text)
            for option in ("--max-groups", "--max-members", "--max-strangers")
            for text in ("", "0", "-1", "1.5", "many", "²", "٣", "99999999999")
        ),
        *(
            (option, text)
            for option in ("--max-file", "--max-files", "--disk-reserve", "--max-files-total")
            for text in ("", "G", "-1", "1.5G", "1X", "1GB", "²", "5²")
        ),
        *(
            ("--keep-files", text)
            for text in (
                "",
                "d",
                "90",
                "0d",
                "-1d",
                "1.5h",
                "90D",
                "9²d",
                "100000d",
                "Forever",
                "off",
            )
        ),
        *(("--handshake-time", text) for text in ("", "0", "-1", "soon", "nan", "inf", "1e9")),
    ],
)
def test_invalid_limit_is_a_usage_error(
    option: str, nonsense: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        limits_of(f"{option}={nonsense}")
    assert caught.value.code == 2
    assert f"argument {option}: " in capsys.readouterr().err


def test_help_shows_each_limit_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(["serve", "--help"])
    assert caught.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    for text in ("(default: 20/50)", "(default: 12/20)", "(default: 1G)", "(default: 2000)"):
        assert text in said
