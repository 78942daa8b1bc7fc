"""Run the notebooks of others, one at a time, in processes that are confined, and ask their functions questions."""

import contextlib
import fcntl
import functools
import hashlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

from .. import wire
from .pipes import LENGTH, MOST, NUMBER
from .sandbox import ROOT, bubblewrap
from .zygote import FORK, LOAD, READY, WAIT

CPU_SECONDS = 5  # for one cell or one question, in processor time: the others on the machine cost a student nothing
IDLE_SECONDS = 5  # in which a child neither computes nor answers
INCIDENTS = 6  # after so many deaths of its processes, a submission gets no further one
STEP_SECONDS = 120  # for one cell or one question, by the clock: a busy machine takes its time
TOTAL_SECONDS = 60  # for one submission, in processor time
START_SECONDS = 120
PIPE_BYTES = 1 << 20  # what a user may ask for
# All of Python's memory in pages of 2 MB, where the C library can: a process is forked, and ends, in a quarter of the time.
HUGE_PAGES = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
FORGED = "wrote into the channel of the grader."


class Incident(Exception):
    """Student code stopped its process, or made it useless. The message is the sentence for the student."""


class Borrowed(Incident):
    """The answer uses the course's own packages; which, only student code could say."""


class Evidence:
    """What a probe is said to have returned, as the bytes that came.

    Attributes
    ----------
    digest : bytes
        Of these bytes.
    """

    def __init__(self, content):
        self.content, self.digest = content, hashlib.sha256(content).digest()

    @functools.cached_property
    def data(self):
        """The evidence as plain data.

        Raises
        ------
        ValueError
            If it is none.
        """
        return wire.loads(self.content)["evidence"]


class Child:
    """A process with student code in it, seen from outside.

    Attributes
    ----------
    content : bytearray
        The latest message.
    cell : int or None
        The cell that it says it has come to.
    """

    def __init__(self, zygote):
        self.zygote, self.used, self.content = zygote, 0.0, b""
        self.cell, self.told, self.coming = None, b"", ()
        reads, self.writes = os.pipe()
        self.reads, writes = os.pipe()
        self.progress, progress = os.pipe()
        theirs = [reads, writes, progress]
        try:
            socket.send_fds(zygote.control, [FORK], theirs)
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        answer, (self.pidfd,), *_ = socket.recv_fds(zygote.control, 1, 1)
        for descriptor in (self.reads, self.writes, self.progress):
            os.set_blocking(descriptor, False)
        with contextlib.suppress(OSError):  # quicker; not where the user has too many large pipes already
            fcntl.fcntl(self.reads, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        with open(f"/proc/self/fdinfo/{self.pidfd}") as file:
            self.pid = int(dict(line.split(":\t") for line in file)["Pid"])

    def usage(self):
        """State ("R", "S", …) and processor seconds so far."""
        if self.pidfd is None:
            return "X", self.used
        try:
            with open(f"/proc/{self.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return "X", self.used
        self.used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return fields[0], self.used

    def _begin_step(self):
        """A cell or a question begins: it has all the time again."""
        self.start, self.deadline = self.usage()[1], time.monotonic() + STEP_SECONDS

    def look(self):
        """See which cell it has come to."""
        try:
            told = self.told + os.read(self.progress, 1 << 16)
        except BlockingIOError:
            return
        whole = len(told) // NUMBER.size * NUMBER.size
        self.told = told[whole:]
        for (number,) in NUMBER.iter_unpack(told[:whole]):
            if number not in self.coming:
                raise Incident(FORGED)
            self.cell, self.coming = number, self.coming[self.coming.index(number) + 1 :]
        if whole:
            self._begin_step()

    def _ready(self, pipe, event):
        """Wait until a pipe can be used."""
        poll, idle, before = select.poll(), 0.0, self.start
        poll.register(pipe, event)
        while not poll.poll(500 if time.monotonic() < self.deadline else 0):
            self.look()
            state, used = self.usage()
            if time.monotonic() > self.deadline:
                break
            if used - self.start > CPU_SECONDS:
                raise Incident(f"ran for more than {CPU_SECONDS} s: look for an endless loop.")
            idle = 0.0 if used > before or state == "R" else idle + 0.5
            before = used
            if idle >= IDLE_SECONDS:
                raise Incident(f"did nothing for {IDLE_SECONDS} s: look for a sleep, or for something that waits.")
        if time.monotonic() > self.deadline:  # also for one who writes byte after byte
            raise Incident(f"did not come to an end within {STEP_SECONDS} s.")

    def ask(self, content, cells=()):
        """Send a message, and return the header of the one that comes; `content` holds its bytes.

        Parameters
        ----------
        content : bytes
        cells : sequence of int
            The cells that the child may come to before it answers, in their order.
        """
        self.coming = tuple(cells)
        self._begin_step()
        view = memoryview(LENGTH.pack(len(content)) + content)
        while view:
            self._ready(self.writes, select.POLLOUT)
            try:
                view = view[os.write(self.writes, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise Incident(self._death()) from None
        (length,) = LENGTH.unpack(self._exactly(LENGTH.size))
        if length > MOST:
            raise Incident(f"returned more than {MOST >> 20} MB.")
        self.content = self._exactly(length)
        self.look()
        try:
            message = wire.header(self.content)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise Incident(FORGED)
        return message

    def _exactly(self, count):
        content = bytearray(count)
        view = memoryview(content)
        while view:
            self._ready(self.reads, select.POLLIN)
            try:
                read = os.readv(self.reads, [view])
            except BlockingIOError:
                continue
            if not read:
                raise Incident(self._death())
            view = view[read:]
        return content

    def _death(self):
        alive = not select.select([self.pidfd], [], [], 0.2)[0]
        status = self.end()
        if alive:
            return "closed the channel of the grader."
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number in (signal.SIGXCPU, signal.SIGKILL):
                return "was stopped by the system: it used too much processor time or memory."
            return f"crashed its process ({signal.Signals(number).name})."
        return "ended the program (os._exit)."

    def end(self):
        """Make sure that the process is gone; return its exit status."""
        if self.pidfd is None:
            return 0
        self.usage()
        with contextlib.suppress(ProcessLookupError):
            if not select.select([self.pidfd], [], [], 0)[0]:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        self.zygote.control.send(WAIT)
        status = int(self.zygote.control.recv(16))
        with contextlib.suppress(Incident):
            self.look()
        for descriptor in (self.pidfd, self.reads, self.writes, self.progress):
            os.close(descriptor)
        self.pidfd = None
        return status


class Zygote:
    """The warm process from which children are forked; a context manager."""

    def __init__(self, safe=True):
        import matplotlib

        self.said = tempfile.TemporaryFile()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        start = (
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); from labcheck.grading.zygote import main; "
            f"main({theirs.fileno()}, {safe!r})"
        )
        cache = matplotlib.get_cachedir()  # of fonts: looked for once, not by every grader; student code can't write there
        quiet = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LANG": "C.UTF-8", "MPLCONFIGDIR": cache}
        quiet |= {"TMPDIR": "/dev/shm", "TORCHINDUCTOR_CACHE_DIR": "/dev/shm"}  # there, though student code can't write to it
        quiet |= HUGE_PAGES
        quiet |= {key: os.environ[key] for key in ("PATH", "ATEN_CPU_CAPABILITY") if key in os.environ}
        self.process = subprocess.Popen(
            bubblewrap([sys.executable, "-s", "-P", "-c", start], cache),
            env=quiet, cwd="/", pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=self.said, start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self.control.settimeout(START_SECONDS)
        if self.control.recv(1) != READY:
            self.process.wait()
            self.said.seek(0)
            said = self.said.read().decode(errors="replace").strip().splitlines()
            self.close()
            raise OSError(f"the process for student code did not start: {said[-1] if said else 'no message'}")
        self.control.settimeout(None)
        self.optimizers = False

    def load(self, cells):
        """Load what takes a second and only some notebooks use, before a child for these cells is forked."""
        if not self.optimizers and any(word in source for _, source in cells for word in ("optim", "checkpoint")):
            self.control.send(LOAD)
            self.control.recv(1)
            self.optimizers = True

    def close(self):
        self.control.close()
        self.process.kill()
        self.process.wait()
        self.said.close()

    def __enter__(self):
        return self

    def __exit__(self, *ignored):
        self.close()


def request(question, function, inputs):
    """The message that asks for the evidence of a question.

    Parameters
    ----------
    question, function : str
    inputs : plain data

    Returns
    -------
    bytes
    """
    return wire.dumps({"question": question, "function": function, "inputs": inputs})


def run(zygote, cells, asked):
    """Run cells, then ask for the evidence of each question.

    Parameters
    ----------
    zygote : Zygote
    cells : list of (int, str)
        The number of each code cell in the notebook, and its source.
    asked : list of (str, bytes)
        Questions, and `request` for each.

    Returns
    -------
    evidence : dict
        For each question its `Evidence`, an `Incident`, or None where there is no such function.
    failed : dict
        For each cell that did not run: its record as of `labcheck.probes.calling.guard`, or the `Incident`.
    cpu : float
        Seconds of processor time that student code took, starting a process for it included.
    """
    evidence, failed, cpu, incidents = {}, {}, 0.0, 0
    zygote.load(cells)
    cells = dict(cells)
    while incidents <= INCIDENTS and cpu < TOTAL_SECONDS:
        child, question = Child(zygote), None
        try:
            sent = wire.dumps({"cells": [{"number": n, "source": source} for n, source in cells.items()]})
            message = child.ask(sent, 2 * tuple(cells))  # each runs twice at most
            failed = {n: why for n, why in failed.items() if isinstance(why, Incident)} | _failed(message, cells)
            for question, content in asked:
                if question not in evidence:
                    message = child.ask(content)
                    if message.get("question") != question:  # a word from an earlier question
                        raise Incident(FORGED)
                    evidence[question] = _evidence(message, child.content)
            cpu += child.usage()[1]
            child.end()
            return evidence, failed, cpu
        except Incident as incident:
            incidents += 1
            cpu += child.usage()[1]
            child.end()
            if question is not None:
                evidence[question] = incident
            elif child.cell in cells:
                failed[child.cell] = incident
                del cells[child.cell]
            else:
                break
    for question, _ in asked:
        evidence.setdefault(question, Incident("stopped its process too often, or ran too long; this question was not reached."))
    return evidence, failed, cpu


def _failed(message, cells):
    """The records of the cells that did not run, by number."""
    found = message.get("failed")
    known = {str(number): number for number in cells}
    if not isinstance(found, dict) or not found.keys() <= known.keys():
        raise Incident(FORGED)
    return {known[name]: record for name, record in found.items()}


def _evidence(message, content):
    if "missing" in message:
        return None
    if "borrowed" in message:
        return Borrowed()
    return Evidence(content)
