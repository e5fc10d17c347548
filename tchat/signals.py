"""The signals that end a program in an orderly way."""

from __future__ import annotations

import signal


def ending_signals() -> list[signal.Signals]:
    """Return SIGINT, SIGTERM and SIGHUP.

    A terminal that is closed sends SIGHUP. Under `nohup` it is ignored, and has to stay so.
    """
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    return signals
