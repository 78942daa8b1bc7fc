"""Shared by all pytest runs: the slowest notebooks are named at the end."""

from collections import Counter


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
