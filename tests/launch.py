"""Processes of one job with the environment that torchrun gives them, without torchrun.

Its agent ends the other processes as soon as one has died, often before they have said what they make of it, and takes
as long to start as they do.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from warm import WarmProcesses

DEADLINE_SECONDS = 300


def run_ranks(
    warm_processes: WarmProcesses,
    arguments: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str],
    world_size: int = 2,
) -> list[subprocess.CompletedProcess[str]]:
    """Run ``python *arguments`` as `world_size` processes that know of each other; how each ended, by rank."""
    import torch.distributed as dist

    # Their meeting place is here, as torchrun's is in its agent: on a port that is bound, not one found free before.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {"WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    place["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    place["TORCHELASTIC_RESTART_COUNT"] = "0"  # PyTorch 2.4 asks for it
    words = [os.fspath(argument) for argument in arguments]
    started = [
        warm_processes.start(words, env={**env, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(world_size)
    ]
    with ThreadPoolExecutor(world_size) as threads:
        streams = list(threads.map(lambda process: process.communicate(timeout=DEADLINE_SECONDS), started))
    return [
        subprocess.CompletedProcess(words, process.returncode, out.decode(), errors.decode())
        for process, (out, errors) in zip(started, streams, strict=True)
    ]
