"""Tag a library with Ray Data: ``python docs/ray_tag.py OUT.parquet FILE...`` or ``... --list FILE``; see scale.md.

One row a file goes in: its path, or with ``--bytes`` its content, which Ray then reads from any storage it knows. One
row comes out: path, duration in seconds, the five best tags, scores (one a tag, in the order of the weights' tags),
embedding and error. Rows are written as Parquet while others are still being tagged.
"""

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
import ray

from samptag import Tagger
from samptag.pretrained import DEFAULT


class Tag:
    """A process that keeps one Tagger and tags the rows it is given, a batch at a time."""

    def __init__(self, model: str, device: str) -> None:
        self.tagger = Tagger.from_pretrained(model, device=device)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Rows with ``path`` and perhaps ``bytes`` to rows of results; a file that fails is a row with an error."""
        sources = batch["path"].tolist()
        if "bytes" in batch:
            sources = [_named(io.BytesIO(data), path) for data, path in zip(batch["bytes"], sources, strict=True)]
        results = list(self.tagger.tag_many(sources, taggram=False))
        scores = np.full((len(results), len(self.tagger.tags)), np.nan, dtype=np.float32)
        embeddings = np.full((len(results), self.tagger.card.config.embedding_size), np.nan, dtype=np.float32)
        for row, result in enumerate(results):
            if result.embedding is not None:
                scores[row] = [score.score for score in result.scores]
                embeddings[row] = result.embedding
        return {
            "path": batch["path"],
            "duration": np.array([result.duration for result in results]),
            "tags": [[score.tag for score in result.top(5)] for result in results],
            "scores": scores,
            "embedding": embeddings,
            "error": np.array([result.error.message if result.error else "" for result in results]),
        }


def _named(stream: io.BytesIO, name: str) -> io.BytesIO:
    """The stream under the name that results and errors shall call it by."""
    stream.name = name
    return stream


def tag(rows: ray.data.Dataset, *, model: str, device: str, processes: int, gpus: float) -> ray.data.Dataset:
    """`rows` tagged by `processes` processes, each on one core, or on `gpus` of a GPU (1, or a part of one)."""
    return rows.map_batches(
        Tag,
        fn_constructor_kwargs={"model": model, "device": device},
        batch_size=64,
        compute=ray.data.ActorPoolStrategy(size=processes),
        num_cpus=1,
        num_gpus=gpus,
    )


def main() -> None:
    """Tag the files named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", help="a folder of Parquet files")
    parser.add_argument("files", nargs="*")
    parser.add_argument("--list", type=Path, help="a file with one path a line")
    parser.add_argument("--model", default=DEFAULT)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2, help="in the whole cluster")
    parser.add_argument("--gpus", type=float, default=0, help="of each process")
    parser.add_argument("--bytes", action="store_true", help="read files in Ray, and send their bytes")
    options = parser.parse_args()
    paths = options.files + (options.list.read_text(encoding="utf-8").splitlines() if options.list else [])
    if options.bytes:
        rows = ray.data.read_binary_files(paths, include_paths=True)
    else:
        rows = ray.data.from_items([{"path": path} for path in paths])
    results = tag(rows, model=options.model, device=options.device, processes=options.processes, gpus=options.gpus)
    # The Taggers may hold every core, so writing must not wait for one.
    results.write_parquet(options.out, ray_remote_args={"num_cpus": 0})


if __name__ == "__main__":
    main()
