"""Processes of one job with the environment that torchrun gives them, without torchrun.

Its agent ends the other processes as soon as one has died, often before they have said what they make of it, and takes
as long to start as they do.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

DEADLINE_SECONDS = 300


def run_ranks(
    arguments: Sequence[str | os.PathLike[str]], *, env: Mapping[str, str] | None = None, world_size: int = 2
) -> "list[subprocess.CompletedProcess[str]]":
    """Run ``python *arguments`` as `world_size` processes that know of each other; how each ended, by rank."""
    import torch.distributed as dist

    # Their meeting place is here, as torchrun's is in its agent: on a port that is bound, not one found free before.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {"WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    place["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    place["PYTHONFAULTHANDLER"] = "1"  # where a process was when it aborted

    def run(rank: int) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_SECONDS,
            env={**(os.environ if env is None else env), **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )

    with ThreadPoolExecutor(world_size) as threads:
        return list(threads.map(run, range(world_size)))
