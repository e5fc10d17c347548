"""The ledger finds what is planted: a lost operation, a doubled one, two that changed places."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cbor2
import pytest

from tests.faults.ledger import Ledger, Operation

if TYPE_CHECKING:
    from tests.faults.ledger import Findings

GROUP = "ops"
CLIENT = b"12345678"
NUMBER = 6


def event(seq: int, operation: Operation) -> bytes:
    fields = {"type": "event", "kind": "posted", "group": GROUP, "seq": seq, "at": 0}
    more = {"actor": "m0", "client": operation.client, "n": operation.n, "text": operation.text}
    return cbor2.dumps(fields | more)


@pytest.fixture
def ledger() -> Ledger:
    """Give a ledger of acknowledged posts, and a member who has received them."""
    ledger = Ledger()
    for n in range(1, NUMBER + 1):
        one = Operation(CLIENT, n, GROUP, "post", f"text {n}", fate="acknowledged", seq=n)
        ledger.operations.append(one)
    for seq, body in log_of(ledger.operations).items():
        ledger.view("m0", GROUP).add(seq, body)
    return ledger


def log_of(operations: list[Operation]) -> dict[int, bytes]:
    return {seq: event(seq, one) for seq, one in enumerate(operations, start=1)}


def check(ledger: Ledger, operations: list[Operation]) -> Findings:
    return ledger.check(GROUP, log_of(operations))


def test_whole_log_has_no_findings(ledger: Ledger) -> None:
    assert check(ledger, ledger.operations).is_clean


def test_forgotten_last_operation_is_lost(ledger: Ledger) -> None:
    found = check(ledger, ledger.operations[:-1])
    assert (found.lost, found.doubled, found.reordered) == (1, 0, 0)
    assert found.differing  # the member has one more


def test_forgotten_operation_in_the_middle_is_lost(ledger: Ledger) -> None:
    found = check(ledger, ledger.operations[:2] + ledger.operations[3:])
    assert found.lost == 1
    assert found.differing


def test_operation_that_is_there_twice_is_doubled(ledger: Ledger) -> None:
    found = check(ledger, [*ledger.operations, ledger.operations[-1]])
    assert (found.lost, found.doubled) == (0, 1)


def test_two_operations_that_changed_places_are_reordered(ledger: Ledger) -> None:
    one, two, *rest = ledger.operations
    found = check(ledger, [two, one, *rest])
    assert (found.lost, found.doubled, found.reordered) == (0, 0, 1)


def test_unknown_operation_may_be_there_or_not(ledger: Ledger) -> None:
    ledger.views.clear()
    ledger.operations[-1].fate, ledger.operations[-1].seq = "unknown", None
    assert check(ledger, ledger.operations).is_clean
    assert check(ledger, ledger.operations[:-1]).is_clean
    assert check(ledger, [*ledger.operations, ledger.operations[-1]]).doubled == 1


def test_refused_operation_may_not_be_there(ledger: Ledger) -> None:
    ledger.views.clear()
    ledger.operations[-1].fate, ledger.operations[-1].seq = "refused", None
    assert check(ledger, ledger.operations).invented == 1
    assert check(ledger, ledger.operations[:-1]).is_clean


def test_text_that_nobody_sent_is_found(ledger: Ledger) -> None:
    ledger.views.clear()
    other = Operation(b"87654321", 1, GROUP, "post", "from nowhere")
    assert check(ledger, [*ledger.operations, other]).invented == 1


def test_member_with_another_event_is_found(ledger: Ledger) -> None:
    ledger.view("m0", GROUP).digests[2] = b"other"
    assert check(ledger, ledger.operations).differing == 1


def test_gap_in_what_a_member_received_is_found(ledger: Ledger) -> None:
    view = ledger.view("m1", GROUP)
    for seq, body in log_of(ledger.operations).items():
        if seq != 3:
            view.add(seq, body)
    assert check(ledger, ledger.operations).differing


def test_erased_text_is_lost_unless_it_was_deleted(ledger: Ledger) -> None:
    log = log_of(ledger.operations)
    erased = cbor2.loads(log[3]) | {"kind": "erased"}
    del erased["text"]
    log[3] = cbor2.dumps(erased)
    assert ledger.check(GROUP, log).lost == 1
    deletion = Operation(CLIENT, NUMBER + 1, GROUP, "delete", "", 3, "acknowledged", NUMBER + 1)
    ledger.operations.append(deletion)
    fields = {"type": "event", "kind": "deleted", "group": GROUP, "seq": NUMBER + 1, "at": 0}
    log[NUMBER + 1] = cbor2.dumps(fields | {"actor": "m0", "target": 3})
    ledger.views.clear()
    assert ledger.check(GROUP, log).is_clean
