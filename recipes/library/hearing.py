"""What models say about music, segment by segment: weights that are judged, and the teachers that they learned from."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recipes.library.music import Track
from samptag.core.config import ModelConfig
from samptag.data.cache import build_cache
from samptag.data.dataset import Clip, make_dataset
from samptag.errors import DatasetError
from samptag.evaluation.perturb import Perturbation
from samptag.tagging.files import Input
from samptag.tagging.tagger import Tagger
from samptag.text import Progress
from samptag.training.distributed import Processes
from samptag.training.teachers import Teachers

# Track's key -> scores (segments, words).
Table = dict[str, npt.NDArray[np.float32]]


def hear(
    tagger: Tagger,
    tracks: Sequence[Track],
    *,
    perturbation: Perturbation | None = None,
    progress: Progress | None = None,
) -> Table:
    """The scores of a model's own tags.

    Raises
    ------
    DatasetError
        A track cannot be read.
    """

    def changed(key: str, blocks: Iterable[npt.NDArray[np.float32]]) -> Iterable[npt.NDArray[np.float32]]:
        return blocks if perturbation is None else perturbation.apply(blocks, sample_rate=tagger.sample_rate, key=key)

    table: Table = {}
    inputs = [Input(path=track.key, source=str(track.path)) for track in tracks]
    for done, result in enumerate(tagger.tag_many(inputs, transform=changed), start=1):
        if result.taggram is None:
            raise DatasetError(f"{result.path}: {result.error.message if result.error else 'no scores'}")
        table[result.path] = result.taggram
        if progress is not None:
            progress(f"hearing, {perturbation.name}" if perturbation else "hearing", done, len(inputs))
    return table


def teach(
    names: Sequence[str],
    tracks: Sequence[Track],
    *,
    model: ModelConfig,
    per_clip: int | None = None,
    cache: Path | None,
    device: str,
    progress: Progress | None = None,
) -> dict[str, tuple[tuple[str, ...], Table]]:
    """Teacher's name -> its tags and its scores of them at the segments of a student (`model`), as in a training.

    `cache` is where decoded audio and what teachers say is kept, as for `samptag train`.
    """
    if not tracks:
        return {}
    nothing = np.zeros(0, dtype=np.float32)
    clips = [Clip(path=t.path, key=t.key, part="train", labels=nothing, group=t.artist) for t in tracks]
    dataset = make_dataset(format="manifest", root=tracks[0].path.parent, split_name="music", tags=(), clips=clips)
    audio = build_cache(dataset, sample_rate=model.sample_rate, directory=cache)
    places = np.flatnonzero(audio.lengths)
    processes = Processes()
    heard = {}
    for name in names:
        teacher = Teachers([name])
        told = progress and (lambda _, done, total, name=teacher.names[0]: progress(name, done, total))
        where = processes.training_device(device)
        taught = teacher.teach(
            audio, places, model=model, per_clip=per_clip, device=where, processes=processes, progress=told
        )
        of_track = np.split(taught.scores, np.searchsorted(taught.starts, audio.starts[places[1:]]))
        keys = (dataset.clips[place].key for place in places)
        heard[teacher.names[0]] = (teacher.tags, dict(zip(keys, of_track, strict=True)))
    return heard
