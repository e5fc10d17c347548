"""The benchmark's regression check: measured figures against those recorded in speed.json."""

from __future__ import annotations

import json

import pytest

from tests.bench.speed import MEASURES, WRITTEN, Figures, compare, standings


@pytest.fixture
def written() -> Figures:
    found: Figures = json.loads(WRITTEN.read_text())
    return found


def test_every_measure_is_recorded(written: Figures) -> None:
    tchats = {f"{name} tchat" for name in MEASURES}
    assert tchats | {"catch-up", "start", "idle tchat", "idle tchat-tls"} <= set(standings(written))


def test_unchanged_ratios_pass_on_a_slower_machine(written: Figures) -> None:
    slower = {
        name: {what: value / 3 for what, value in found.items()} for name, found in written.items()
    }
    assert compare(written, written) == []
    assert compare(slower, written) == []


@pytest.mark.parametrize(
    ("name", "what", "factor"),
    [
        ("fanout-100 tchat", "deliveries", 0.49),
        ("fanout-100 tchat-tls", "deliveries", 0.49),
        ("acks tchat", "acks", 0.49),
        ("pace tchat", "p50", 2.1),
        ("idle tchat", "1000", 2.1),
        ("catch-up tchat", "events", 0.49),
        ("start tchat", "start_ms", 2.1),
    ],
)
def test_a_figure_half_as_good_is_reported(
    written: Figures, name: str, what: str, factor: float
) -> None:
    worse = {**written, name: {**written[name], what: written[name][what] * factor}}
    (sentence,) = compare(worse, written)
    assert sentence.startswith(
        name.removesuffix(" tchat") if what in ("events", "start_ms") else name
    )
    assert compare(written, worse) == []
