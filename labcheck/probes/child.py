"""Run one probe on the function of a file, in a process of its own that knows no answers.

``python -m labcheck.probes.child QUESTION FUNCTION FILE`` reads the inputs on stdin and writes the outcome on stdout,
both in the form of `labcheck.wire`. What the file prints goes nowhere.
"""

import os
import sys
import types


def main(question, function, path):
    out = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)

    from .. import wire
    from . import find
    from .calling import borrowed, guard

    inputs = wire.loads(sys.stdin.buffer.read())
    answer = sys.modules["answer"] = types.ModuleType("answer")  # dataclasses, for one, look their module up
    place = vars(answer)

    def load():
        with open(path, encoding="utf-8") as file:
            exec(compile(file.read(), path, "exec"), place)
        return 0.0

    record = guard(load, load)
    if record["outcome"] != "returned":
        message = {"loaded": record}
    elif function not in place:
        names = sorted(name for name in place if not name.startswith("__"))
        message = {"loaded": {"outcome": "no function", "names": names[:50]}}
    elif foreign := borrowed(place[function]):
        message = {"loaded": {"outcome": "returned"}, "borrowed": foreign}
    else:
        message = {"loaded": {"outcome": "returned"}, "evidence": find(question)(place[function], inputs)}
    with os.fdopen(out, "wb") as file:
        file.write(wire.dumps(message))


if __name__ == "__main__":
    main(*sys.argv[1:])
