"""What student code may ask of the system when a class is graded: to compute, and hardly anything else.

Three layers, each irreversible for the process that takes it on and for all that it starts:

- Landlock (`confine`): files may be read where Python lives and nowhere else; none may be written.
- seccomp (`deny_system_calls`): of the system's calls, those of a computation are left. No process, no socket, no
  signal to others, no change to a file.
- limits (`limit_resources`): memory and processor time.

bubblewrap, where it is installed, puts namespaces around all of it: no network device, no other process to see.
"""

import contextlib
import ctypes
import errno
import fcntl
import functools
import importlib
import os
import resource
import shutil
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 2 << 30  # bytes that a submission may ask for, beyond what Python and torch take
CPU_SECONDS = 120

COMPUTE = """
    read readv pread64 write writev close lseek fstat newfstatat stat lstat statx access faccessat faccessat2
    open openat readlink readlinkat getcwd getdents64 dup dup2 dup3 poll ppoll select pselect6
    mmap munmap mprotect mremap madvise brk mincore
    rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall
    futex set_robust_list get_robust_list rseq membarrier set_tid_address
    sched_yield sched_getaffinity sched_getparam sched_getscheduler getcpu
    getpid gettid getppid getuid geteuid getgid getegid getpgrp getresuid getresgid
    clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getrusage
    getrandom uname sysinfo arch_prctl exit exit_group
""".split()

# Not F_SETOWN and F_SETSIG, by which the system sends a signal of one's choice to another process.
FCNTL = (fcntl.F_DUPFD, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL, fcntl.F_DUPFD_CLOEXEC)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, INSTRUCTION = 38, 22, 2, 8  # <linux/prctl.h>, <linux/filter.h>
CLONE_THREAD, TCGETS, FIOCLEX, FIONCLEX = 0x00010000, 0x5401, 0x5451, 0x5450


def readable():
    """The folders that hold Python, its libraries and the system's: not the course, not its checks."""
    own = {"labcheck", "signalprop", "__editable__"}
    found = [Path(p) for p in ("/usr/lib", "/usr/share", "/lib", "/lib64", "/etc/localtime", "/etc/ld.so.cache")]
    found += [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    for folder in {*site.getsitepackages(), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        found += [p for p in Path(folder).glob("*") if not any(p.name.startswith(name) for name in own)]
    # a stdlib folder may hold site-packages, and with it what was just left out
    kept = []
    for path in found:
        inner = path / "site-packages"
        kept += [p for p in path.glob("*") if p != inner] if inner.exists() else [path]
    return sorted({p.resolve() for p in kept if p.exists()})


def prepare():
    """Load what the layers need, before a layer forbids it: pyseccomp looks for its library by starting a program."""
    with contextlib.suppress(ImportError):
        importlib.import_module("py_landlock")
    memory()
    with contextlib.suppress(OSError):
        system_calls()


def confine():
    """Take on the Landlock layer, for this process and those it starts.

    Raises
    ------
    OSError
        If this system can't.
    """
    try:
        from py_landlock import AccessFs, Landlock, LandlockError
    except ImportError as error:
        raise OSError(f"expected the package py-landlock: {error}") from None
    try:
        rules = Landlock(strict=False)
        for path in readable():
            rules.add_path_rule(path, access=AccessFs.READ_FILE | (AccessFs.READ_DIR if path.is_dir() else AccessFs(0)))
        rules.add_path_rule("/dev/null", access=AccessFs.READ_FILE | AccessFs.WRITE_FILE)
        rules.add_path_rule("/dev/urandom", access=AccessFs.READ_FILE)
        rules.apply()
    except LandlockError as error:
        raise OSError(str(error)) from None


@functools.cache
def system_calls():
    """The seccomp layer's program for the kernel, as bytes.

    Raises
    ------
    OSError
        If it can't be made on this system.
    """
    try:
        import pyseccomp as seccomp
    except (ImportError, RuntimeError) as error:  # RuntimeError: no libseccomp
        raise OSError(f"expected the package pyseccomp and the library libseccomp: {error}") from None
    rules = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    for name in COMPUTE:
        try:
            rules.add_rule(seccomp.ALLOW, name)
        except OSError:  # not on this processor
            continue
    rules.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")  # its flags can't be seen: the C library then uses clone
    rules.add_rule(seccomp.ALLOW, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, CLONE_THREAD, CLONE_THREAD))
    rules.add_rule(seccomp.ALLOW, "prlimit64", seccomp.Arg(2, seccomp.EQ, 0))  # to ask for a limit, not to set it
    for request in (TCGETS, FIOCLEX, FIONCLEX):
        rules.add_rule(seccomp.ALLOW, "ioctl", seccomp.Arg(1, seccomp.EQ, request))
    for command in FCNTL:
        rules.add_rule(seccomp.ALLOW, "fcntl", seccomp.Arg(1, seccomp.EQ, command))
    with os.fdopen(os.memfd_create("rules"), "w+b") as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]  # sock_fprog of <linux/filter.h>


def deny_system_calls():
    """Take on the seccomp layer.

    Raises
    ------
    OSError
        If this system can't.
    """
    rules = system_calls()
    program = _Program(len(rules) // INSTRUCTION, rules)
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program))):
        if libc.prctl(*call):
            raise OSError(ctypes.get_errno(), "the kernel refuses the seccomp layer")


def memory():
    """Address space of this process, in bytes."""
    return int(os.pread(_statm(), 100, 0).split()[0]) * resource.getpagesize()


@functools.cache
def _statm():
    return os.open("/proc/self/statm", os.O_RDONLY)


def limit_resources(taken):
    """Take on the limits of memory, beyond what is `taken`, and processor time. No file can grow, no memory is dumped."""
    for what, most in (
        (resource.RLIMIT_AS, taken + MEMORY),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


BUBBLEWRAP = ("bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc")


def bubblewrap(command, writable):
    """A command inside bubblewrap's namespaces, with one folder to write to; as it is where bubblewrap can't be used."""
    return [*BUBBLEWRAP, "--bind", writable, writable, "--", *command] if bubblewrapped() else command


@functools.cache
def bubblewrapped():
    """Whether bubblewrap is there and works; some systems forbid the namespaces that it needs."""
    if not shutil.which("bwrap"):
        return False
    return not subprocess.run([*BUBBLEWRAP, "--", "true"], capture_output=True).returncode


def missing():
    """Why student code can't be confined on this system: one sentence for each layer that is missing."""
    if sys.platform != "linux":
        return [f"the sandbox needs Linux; this is {sys.platform}. Grade in a Linux container or virtual machine."]
    reasons = []
    for take_on in (confine, deny_system_calls):
        child = os.fork()
        if not child:
            try:
                take_on()
            except BaseException:
                os._exit(1)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            reasons.append(f"{take_on.__name__} does not work here")
    return reasons
