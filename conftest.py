"""Shared by all pytest runs: nbval's kernels share no address; the slowest notebooks are named at the end."""

from collections import Counter

import nbval.kernel

from tools.kernels import Manager

nbval.kernel.KernelManager = Manager  # it has no option for this


def pytest_terminal_summary(terminalreporter):
    seconds = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            path = getattr(report, "nodeid", "").split("::")[0]
            if path.endswith(".ipynb"):
                seconds[path] += report.duration
    if seconds:
        terminalreporter.section("slowest notebooks")
        for path, total in seconds.most_common(12):
            terminalreporter.line(f"{total:7.1f} s  {path}")
