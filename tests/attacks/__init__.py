"""Attacks on a real server: `python -m tests.attacks`.

Each module is a kind of attacker, with its attacks in `ATTACKS`. To add one, write a coroutine that
attacks a `Target` until it is cancelled, and counts in its tally what it did and what came of it.
Attacks that measure something else are programs of their own: modules with a function `main`.
"""
