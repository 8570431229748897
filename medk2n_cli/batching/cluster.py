"""The same studies on a Dask cluster: weights loaded once per worker, a lost worker's studies done elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from medk2n_cli.batching.table import Row
from medk2n_cli.core.errors import DeviceError

if TYPE_CHECKING:
    from distributed import Client

_PATIENCE_S = 15.0
_TRIES_AFTER_LOSS = 2
Item = TypeVar("Item")


def on_cluster(
    address: str,
    items: Sequence[Item],
    work: Callable[[Item], Row],
    resources: Mapping[str, float],
    lost: Callable[[Item, str], Row],
) -> Iterator[Row]:
    """Rows as they come, in any order.

    Args:
        work: done on a worker; picklable, raises nothing that has a row.
        resources: what each item occupies on its worker, e.g. one GPU; workers are started with --resources "GPU=1".
        lost: the row of an item whose workers died again and again, or that could not be sent, and why.

    Raises:
        DeviceError: NO_DISTRIBUTED, CLUSTER_UNREACHABLE, NO_WORKER.
    """
    with _connected(address) as client:
        _check_workers(client, resources)
        from distributed import as_completed

        futures = {
            client.submit(work, item, resources=dict(resources) or None, retries=_TRIES_AFTER_LOSS, pure=False): item
            for item in items
        }
        for future in as_completed(list(futures), loop=client.loop):
            failure = future.exception() if future.status != "finished" else None
            yield lost(futures[future], type(failure).__name__) if failure is not None else future.result()


def _check_workers(client: Client, resources: Mapping[str, float]) -> None:
    """Studies for which there is no worker would wait without a word."""
    with suppress(TimeoutError):
        client.wait_for_workers(1, timeout=_PATIENCE_S)
    there = client.scheduler_info(n_workers=-1)["workers"].values()
    if not any(all(w["resources"].get(k, 0) >= v for k, v in resources.items()) for w in there):
        needed = " ".join(f"{k}={v:g}" for k, v in resources.items())
        raise DeviceError(
            f"The cluster has {len(there)} workers" + (f", none with {needed}." if needed else "."),
            next_step=f"Start some: dask worker SCHEDULER --nthreads 1{needed and f' --resources {needed!r}'}.",
            code="NO_WORKER",
        )


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    try:
        from distributed import Client
    except ImportError as failure:
        raise DeviceError(
            "--cluster needs dask.distributed, which is not installed.",
            next_step="Install it on client and workers: pip install '.[cluster]' in the checkout of medk2n.",
            code="NO_DISTRIBUTED",
        ) from failure
    try:
        client = Client(address, timeout=_PATIENCE_S, set_as_default=False)
    except (OSError, ValueError) as failure:  # a timeout is an OSError
        raise DeviceError(
            f"No Dask scheduler answers at {address}.",
            next_step="Start one with: dask scheduler; or check the address, e.g. --cluster tcp://host:8786.",
            code="CLUSTER_UNREACHABLE",
        ) from failure
    with client:
        yield client
