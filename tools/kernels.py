"""Kernels that never share an address.

Jupyter picks five free ports, lets go of them, and tells the kernel to take them. Where several kernels start at
once, two may be told the same port: of some 800 started four at a time, one hung and one died. A socket in a folder of
its own can't be taken by another.
"""

import os
import shutil
import tempfile
import weakref

from jupyter_client.manager import AsyncKernelManager, KernelManager
from traitlets import default


class OwnSockets:
    """For a kernel manager: its sockets lie in a folder of their own (on Windows: ports, as ever)."""

    @default("transport")
    def _transport_default(self):
        return "tcp" if os.name == "nt" else "ipc"

    @default("ip")
    def _ip_default(self):
        if self.transport == "tcp":
            return super()._ip_default()
        folder = tempfile.mkdtemp(prefix="kernel-")  # short: a socket's path has 104 bytes at most on macOS
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return os.path.join(folder, "socket")


class Manager(OwnSockets, KernelManager):
    pass


class AsyncManager(OwnSockets, AsyncKernelManager):
    pass
