"""One library over several processes that torchrun started, merged into one ordered run of results.

The processes share torchrun's own key-value store, and nothing else: no folder, so they may be on several machines.
Each takes the next input that nobody has as it becomes free, puts the result into the store, and rank 0 takes the
results out in the order of the inputs.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from samptag.errors import UsageError
from samptag.tagging.files import Input
from samptag.tagging.result import TagScore, TrackError, TrackResult

if TYPE_CHECKING:
    from samptag.tagging.tagger import Tagger, Transform

__all__ = ["Ranks", "Shard", "from_bytes", "to_bytes"]

# Results that may lie in the store before rank 0 takes them: a few kilobytes each.
AHEAD_RESULTS = 4096
POLL_SECONDS = 0.02
LEAVE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The place of a process among those that torchrun started.

    Attributes
    ----------
    rank : int
        Its number over all machines; 0 writes the result.
    world_size : int
        Number of processes.
    local_rank : int
        Its number on this machine.
    """

    rank: int
    world_size: int
    local_rank: int

    @classmethod
    def from_environment(cls) -> Ranks | None:
        """What torchrun set, or None for a process on its own.

        Raises
        ------
        UsageError
            When the variables are there but hold no such numbers.
        """
        try:
            world_size = int(os.environ.get("WORLD_SIZE", "1"))
            rank = int(os.environ.get("RANK", "0"))
            local_rank = int(os.environ.get("LOCAL_RANK", rank))
        except ValueError as error:
            raise UsageError(f"RANK, WORLD_SIZE and LOCAL_RANK must be numbers: {error}") from None
        return cls(rank=rank, world_size=world_size, local_rank=local_rank) if world_size > 1 else None

    def device(self, name: str) -> str:
        """The device for this process: with several CUDA devices each local rank takes its own.

        Parameters
        ----------
        name : str
            What the user asked for; only "auto" and "cuda" are shared out.

        Returns
        -------
        str
        """
        import torch

        if name in ("auto", "cuda") and torch.cuda.is_available():
            return f"cuda:{self.local_rank % torch.cuda.device_count()}"
        return name


class Shard:
    """The share of one process in a run.

    Parameters
    ----------
    ranks : Ranks
    inputs : sequence of Input
        All inputs of the run, the same in every process.
    done : set of int
        Indices of inputs that need no tagging; what rank 0 says counts.
    transform : callable, optional
        As for `Tagger.tag_many`; the same in every process.

    Raises
    ------
    UsageError
        When this process found other inputs than rank 0.
    """

    def __init__(
        self,
        ranks: Ranks,
        *,
        inputs: Sequence[Input],
        done: frozenset[int] = frozenset(),
        transform: Transform | None = None,
    ) -> None:
        from torch.distributed.rendezvous import rendezvous

        self._ranks = ranks
        self._inputs = inputs
        self._transform = transform
        self._store: Any = next(iter(rendezvous("env://")))[0]
        digest = hashlib.sha256(b"\0".join(os.fsencode(item.path) for item in inputs)).hexdigest()
        if ranks.rank == 0:
            self._store.set("samptag/plan", json.dumps({"digest": digest, "done": sorted(done)}))
        plan = json.loads(self._store.get("samptag/plan"))
        if plan["digest"] != digest:
            raise UsageError(f"rank {ranks.rank} finds other inputs than rank 0: all machines need the same files")
        skip = set(plan["done"])
        self._pending = [index for index in range(len(inputs)) if index not in skip]

    def work(self, tagger: Tagger, *, taggram: bool) -> None:
        """Tag inputs until none is left, putting the results into the store.

        Parameters
        ----------
        tagger : Tagger
        taggram : bool
            Whether results keep the scores of every segment.
        """
        claimed: list[int] = []
        results = tagger.tag_many(self._claims(claimed), taggram=taggram, transform=self._transform)
        for count, result in enumerate(results):
            self._store.set(f"samptag/result/{claimed[count]}", to_bytes(result))
        self._store.add("samptag/left", 1)

    def results(self, tagger: Tagger, *, taggram: bool) -> Generator[TrackResult, None, None]:
        """On rank 0: all results in the order of the inputs, while it tags its own share in another thread.

        Parameters
        ----------
        tagger, taggram
            As for `work`.

        Yields
        ------
        TrackResult
        """
        failure: list[BaseException] = []

        def own_share() -> None:
            try:
                self.work(tagger, taggram=taggram)
            except BaseException as error:  # raised again in the thread that iterates
                failure.append(error)

        threading.Thread(target=own_share, name="samptag-share", daemon=True).start()
        for index in self._pending:
            key = f"samptag/result/{index}"
            while not self._store.check([key]):
                if failure:
                    raise failure[0]
                time.sleep(POLL_SECONDS)
            yield from_bytes(self._store.get(key))
            self._store.delete_key(key)
            self._store.add("samptag/due", 1)
        self._wait_for_all()

    def _claims(self, claimed: list[int]) -> Iterator[Input]:
        while True:
            position = self._store.add("samptag/next", 1) - 1
            if position >= len(self._pending):
                return
            while position - self._store.add("samptag/due", 0) >= AHEAD_RESULTS:
                time.sleep(POLL_SECONDS)
            claimed.append(self._pending[position])
            yield self._inputs[self._pending[position]]

    def _wait_for_all(self) -> None:
        """Stay until every rank has left: rank 0 may be the one whose store the others talk to."""
        end = time.monotonic() + LEAVE_SECONDS
        while self._store.add("samptag/left", 0) < self._ranks.world_size and time.monotonic() < end:
            time.sleep(POLL_SECONDS)


def to_bytes(result: TrackResult) -> bytes:
    """The result as an archive of plain arrays and JSON, from which nothing is ever unpickled.

    Parameters
    ----------
    result : TrackResult

    Returns
    -------
    bytes
    """
    facts = {
        "path": result.path,
        "duration": result.duration,
        "sample_rate": result.sample_rate,
        "model": result.model,
        "weights_sha256": result.weights_sha256,
        "segments": result.segments,
        "padded": result.padded,
        "tags": [item.tag for item in result.scores],
        "warnings": result.warnings,
        "error": asdict(result.error) if result.error else None,
    }
    arrays: dict[str, Any] = {"scores": np.array([item.score for item in result.scores], dtype=np.float64)}
    for name in ("taggram", "starts", "embedding"):
        value = getattr(result, name)
        if value is not None:
            arrays[name] = value
    buffer = io.BytesIO()
    np.savez(buffer, facts=np.frombuffer(json.dumps(facts).encode("ascii"), dtype=np.uint8), **arrays)
    return buffer.getvalue()


def from_bytes(data: bytes) -> TrackResult:
    """What `to_bytes` was given.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    TrackResult
    """
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    facts = json.loads(arrays.pop("facts").tobytes())
    tags, scores = facts.pop("tags"), arrays.pop("scores")
    error = facts.pop("error")
    return TrackResult(
        **{**facts, "warnings": tuple(facts["warnings"])},
        scores=tuple(TagScore(tag, float(score)) for tag, score in zip(tags, scores, strict=True)),
        error=error and TrackError(**error),
        **arrays,
    )
