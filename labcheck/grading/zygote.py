"""The process that student code's processes are forked from: it has loaded what they need, and knows no answers.

It takes orders on a socket, one at a time: FORK, with the pipe ends of the child, is answered with the child's pidfd;
WAIT with the status that the latest child ended with; LOAD with LOAD, when it has loaded what optimizers need. When the
parent is gone, it ends, and its child with it.
"""

import ctypes
import fcntl
import gc
import importlib
import os
import pkgutil
import signal
import socket
import sys
import tempfile

from .. import probes

FORK, WAIT, LOAD, READY = b"F", b"W", b"L", b"R"
PR_SET_PDEATHSIG = 1
KEPT = 100  # file descriptors of a child's pipes, and above


def preload():
    """Import what notebooks import, and use it once, so that a child starts warm."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot
    import numpy
    import torch

    from .child import transform

    torch.set_num_threads(1)
    _step(torch, lambda parameters: None)
    numpy.linalg.svd(numpy.ones((2, 2)))
    transform("%pip install x\nif True:\n    !ls")


def load_optimizers():
    """Use an optimizer once: the first takes a second to load, so this is done for notebooks that speak of one."""
    import torch

    _step(torch, lambda parameters: torch.optim.SGD(parameters, 0.1).step())
    _settle()


def _step(torch, update):
    weight, model = torch.ones(8, 8, requires_grad=True), torch.nn.Linear(8, 8)
    torch.nn.functional.cross_entropy(model(torch.ones(4, 8) @ weight), torch.zeros(4, dtype=torch.int64)).backward()
    update(model.parameters())


def _settle():
    gc.collect()
    gc.freeze()  # so that collecting in a child touches none of the pages that it shares


def end_with(parent):
    """Have this process killed when its parent, of this pid, is gone; if it is gone already, end."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main(descriptor, safe):
    control = socket.socket(fileno=descriptor)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(null, standard)
    preload()
    from . import child, sandbox

    for module in pkgutil.iter_modules(probes.__path__):
        if module.name.startswith("lab"):
            importlib.import_module(f"{probes.__name__}.{module.name}")

    tempfile.gettempdir()  # found by writing to it; torch._dynamo, loaded later, asks for its name
    sandbox.prepare()
    try:
        sandbox.confine()
    except OSError:
        if safe:
            raise
    sys.path.remove(str(sandbox.ROOT))
    _settle()
    taken = sandbox.memory()
    control.send(READY)
    latest, me = None, os.getpid()
    while True:
        order, pipes, *_ = socket.recv_fds(control, 1, 3)
        if order == FORK:
            latest = os.fork()
            if not latest:
                end_with(me)
                os.dup2(null, 2)
                control.close()
                pipes = [fcntl.fcntl(pipe, fcntl.F_DUPFD, KEPT) for pipe in pipes]
                os.closerange(3, KEPT)
                try:
                    sandbox.limit_resources(taken)
                    sandbox.deny_system_calls()
                except OSError:
                    if safe:
                        os._exit(1)
                try:
                    child.serve(*pipes)
                finally:
                    os._exit(0)
            for pipe in pipes:
                os.close(pipe)
            pidfd = os.pidfd_open(latest)
            socket.send_fds(control, [FORK], [pidfd])
            os.close(pidfd)
        elif order == WAIT:
            control.send(b"%d" % os.waitpid(latest, 0)[1])
        elif order == LOAD:
            load_optimizers()
            taken = sandbox.memory()
            control.send(LOAD)
        else:
            return
