"""Kernels that start at once share no address, and leave nothing behind."""

import gc
import os
from pathlib import Path

import nbval.kernel
import pytest
from jupyter_client.manager import KernelManager

from tools.kernels import AsyncManager, Manager

pytestmark = pytest.mark.skipif(os.name == "nt", reason="on Windows kernels use ports")


@pytest.mark.parametrize("kind", [Manager, AsyncManager])
def test_each_manager_has_sockets_of_its_own(kind):
    managers = [kind() for _ in range(3)]
    assert {manager.transport for manager in managers} == {"ipc"}
    assert len({manager.ip for manager in managers}) == 3


def test_where_there_are_only_ports_they_are_those_of_this_machine():
    assert Manager(transport="tcp").ip == KernelManager().ip


def test_a_kernel_answers_and_its_folder_goes_with_it():
    manager, client = nbval.kernel.start_new_kernel(kernel_name=nbval.kernel.CURRENT_ENV_KERNEL_NAME)
    assert isinstance(manager, Manager), "nbval uses another manager"
    folder = Path(manager.ip).parent
    assert folder.is_dir() and list(folder.iterdir())
    client.execute_interactive("6 * 7", timeout=60)
    client.stop_channels()
    manager.shutdown_kernel()
    del manager, client
    gc.collect()
    assert not folder.exists()
