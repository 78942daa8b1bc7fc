"""The checks of every lab question.

A check has three parts. The *inputs* are drawn from a seed. The *probe* (`labcheck.probes`) calls the student's
function on them and returns plain data. The *verdict* (`labcheck.questions`) compares that data with the
reference, gives points and names the mistake. Only a probe ever touches student code, and a probe knows no
answers: importing `labcheck.probes` loads no question, which is why the imports here wait until they are used.
"""

__all__ = ["check", "progress", "questions"]


def __getattr__(name):
    if name in ("check", "progress"):
        from . import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
