"""Which layers of the sandbox work on this machine, and what each stops: found out by trying."""

import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import types
from pathlib import Path

from . import sandbox

# --- what student code might try: each returns on success and raises OSError (or MemoryError) when it is stopped.
#     `place` has a folder with the files a and b, and the port of a server -------------------------------------------


def read_references(place):
    (sandbox.ROOT / "labcheck/questions/__init__.py").read_text()


def read_a_home(place):
    os.listdir(Path.home())


def write_a_file(place):
    (place.folder / "new").write_text("x")


def delete_a_file(place):
    os.unlink(place.folder / "a")


def change_permissions(place):
    os.chmod(place.folder / "b", 0o777)


def start_a_process(place):
    if not (child := os.fork()):
        os._exit(0)
    os.waitpid(child, 0)


def open_a_tcp_socket(place):
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()


def open_a_udp_socket(place):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()


def open_a_unix_socket(place):
    socket.socket(socket.AF_UNIX).close()


def reach_a_server(place):
    socket.create_connection(("127.0.0.1", place.port), 1).close()


def see_other_processes(place):
    mine, pid = set(), os.getpid()
    while pid:  # this process, its parent, and so on
        mine.add(str(pid))
        with open(f"/proc/{pid}/stat") as file:
            pid = int(file.read().rpartition(")")[2].split()[1])
    if not set(filter(str.isdigit, os.listdir("/proc"))) - mine:
        raise OSError("there are none")


def signal_the_parent(place):
    os.kill(os.getppid(), 0)


def read_the_parents_memory(place):
    with open(f"/proc/{os.getppid()}/environ", "rb") as file:
        file.read()


def take_much_memory(place):
    bytearray(sandbox.MEMORY + (1 << 30))


def fill_a_file(place):
    (place.folder / "large").write_bytes(b"x" * 10_000_000)


ACTS = (
    read_references, read_a_home, read_the_parents_memory, write_a_file, fill_a_file, delete_a_file, change_permissions,
    start_a_process, signal_the_parent, see_other_processes, open_a_tcp_socket, open_a_udp_socket, open_a_unix_socket,
    reach_a_server, take_much_memory,
)  # fmt: skip


def _limits():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sandbox.limit_resources(sandbox.memory())


# In the order in which a child takes them on: each forbids what the one before it needs.
LAYERS = {"limits": _limits, "Landlock": sandbox.confine, "seccomp": sandbox.deny_system_calls}


def trial(layers, folder, port):
    """Take on some layers, try every act, and return the names of those that succeeded; for a process of its own."""
    place = types.SimpleNamespace(folder=Path(folder), port=port)
    reads, writes = os.pipe()
    sandbox.prepare()
    if not os.fork():
        for layer in layers:
            LAYERS[layer]()
        done = []
        for act in ACTS:
            try:
                act(place)
                done.append(act.__name__)
            except (OSError, MemoryError):
                pass
        os.write(writes, json.dumps(done).encode())
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as file:
        said = file.read()
    os.wait()
    return json.loads(said) if said else None


def _tried(layers, wrap=lambda command, folder: command):
    """What succeeds under some layers, or None if they can't be taken on."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        for name in ("a", "b"):
            (Path(folder) / name).touch()
        start = (
            f"import sys; sys.path.insert(0, {str(sandbox.ROOT)!r}); from labcheck.grading import doctor; "
            f"import json; print(json.dumps(doctor.trial({layers!r}, {folder!r}, {server.getsockname()[1]})))"
        )
        command = wrap([sys.executable, "-c", start], folder)
        done = subprocess.run(command, capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else None


def examine():
    """For each layer whether it works here and what it stops; "all" for the three that grading needs together.

    Returns
    -------
    dict
        Of layer to None (does not work here), or to a list of acts in words.
    """
    if sys.platform != "linux":
        return {}
    free = _tried([]) or []

    def stopped(left):
        return None if left is None else [_words(act) for act in free if act not in left]

    found = {name: stopped(_tried(layers)) for name, layers in {**{name: [name] for name in LAYERS}, "all": list(LAYERS)}.items()}
    found["still possible"] = None if found["all"] is None else [_words(act) for act in free if _words(act) not in found["all"]]
    found["bubblewrap"] = stopped(_tried([], sandbox.bubblewrap)) if sandbox.bubblewrapped() else None
    return found


def _words(name):
    return name.replace("_", " ").replace("parents", "parent's").replace("tcp", "TCP").replace("udp", "UDP")


def report():
    """What `labcheck doctor` prints, and whether a class can be graded here."""
    about = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    if sys.platform != "linux":
        return f"{about}\n{ELSEWHERE}", False
    found = examine()
    lines = [about, ""]
    for name in LAYERS:
        stopped = found[name]
        lines.append(f"{'✗' if stopped is None else '✓'} {name}: " + ("does not work here" if stopped is None else "stops " + ", ".join(stopped)))
    lines.append(
        "✓ bubblewrap: is put around all of it, and alone stops " + ", ".join(found["bubblewrap"])
        if found["bubblewrap"] is not None
        else f"– bubblewrap: {'is there, but may not be used here' if shutil.which('bwrap') else 'not found'}; grading does without"
    )
    ready = found["still possible"] == []
    if found["still possible"]:
        lines.append("Still possible with all layers: " + ", ".join(found["still possible"]))
    lines += ["", "A class can be graded here." if ready else NOT_READY]
    return "\n".join(lines), ready


NOT_READY = (
    "Student code can't be confined here, and labcheck grade refuses. Landlock needs Linux 5.13 or newer and a kernel that has it "
    "switched on; both need python -m pip install 'vanishing-gradients[grading]', and seccomp the library libseccomp."
)
ELSEWHERE = (
    "The sandbox needs Linux. Grade in a Linux container or a virtual machine, where the submissions are a mounted folder:\n"
    "  docker run --rm -it -v \"$PWD:/class\" -w /class python:3.11 bash\n"
    "and install the course there. (Docker's own seccomp profile lets Landlock through from version 23 on.)"
)
