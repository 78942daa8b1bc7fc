"""Send the work to a Dask cluster that exists."""

from .batch import TRIES


class NoCluster(Exception):
    """There is no cluster at this address, or no Dask here; the message says what to do."""


def at(address, seconds=30):
    """An executor for `labcheck.grading.batch.grade` that runs on a cluster, and the number of its threads.

    Parameters
    ----------
    address : str
        Of the scheduler, such as "tcp://host:8786" or, with certificates in Dask's configuration, "tls://host:8786".
    seconds : float
        To wait for the scheduler.

    Raises
    ------
    NoCluster
    """
    try:
        from distributed import Client
    except ImportError:
        raise NoCluster("expected Dask: python -m pip install distributed") from None
    try:
        client = Client(address, timeout=seconds, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise NoCluster(f"no Dask scheduler answers at {address}: {error}") from None
    threads = sum(client.nthreads().values())
    if not threads:
        client.close()
        raise NoCluster(f"the scheduler at {address} has no workers")
    return lambda workers: client.get_executor(pure=False, retries=TRIES), threads
