"""Fault injection with a ledger: `python -m tests.faults`.

Each module injects a kind of fault into real servers and clients, and has its rows in `ROWS`. The
clients of most rows are those of `members`: they speak the protocol through code of their own
(`wire`), and enter every operation into a ledger (`ledger`), which is compared at the end with the
server's log and with what each member has received. To add a row, write a coroutine that takes a
`Trial`, injects faults until `trial.is_over()`, and counts in it what it did and what came of it.
"""
