"""A progress bar for long runs, on stderr, so that what a program prints stays as it is."""

import sys
import time


def progress(iterable, total, label):
    """Yield the items of `iterable` and draw how many of `total` are done.

    Parameters
    ----------
    iterable : iterable
    total : int
        Items that will come.
    label : str
        What is counted, in a word or two.
    """
    start = drawn = time.monotonic()
    for done, item in enumerate(iterable, 1):
        yield item
        now = time.monotonic()
        if now - drawn > 0.2 or done == total:
            drawn, filled = now, 30 * done // max(total, 1)
            left = (now - start) / done * (total - done)
            bar = "█" * filled + "·" * (30 - filled)
            end = "\n" if done == total else ""
            print(f"\r{label} {bar} {done}/{total}, {left:.0f} s left ", end=end, file=sys.stderr, flush=True)
