"""Which segments are seen: the paper's count, random crops, batches, and where the samples come from."""

import threading
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from samptag.core.model import ModelConfig, config_from_name
from samptag.core.protocols import paper_count
from samptag.data.cache import AudioCache
from samptag.data.dataset import Dataset
from samptag.training.batches import (
    LEAST_BATCHES_OF_A_SUBSET,
    Segments,
    batch_bounds,
    consecutive_segments,
    epoch_segments,
    mapped_source,
    prefetched,
    resident_source,
)
from samptag.training.recipe import MODERN, PAPER, Augmentation, Recipe

CPU = torch.device("cpu")


def counts(name: str, *lengths: int, sample_rate: int = 22_050) -> list[int]:
    length = config_from_name(name).input_length
    return [paper_count(each, length=length, sample_rate=sample_rate) for each in lengths]


def test_clips_of_29_seconds_are_counted_as_in_the_paper():
    # 29.1 s of MagnaTagATune, a preview of 30 s, and the least that counts as a clip
    assert counts("samplecnn-3-9", 641_655, 661_500, 640_512) == [10, 10, 10]
    assert counts("samplecnn-2-13", 641_655, 661_500, 640_512) == [39, 39, 39]
    assert counts("samplecnn-5-5", 641_655, 661_500) == [40, 40]


def test_other_clips_give_every_whole_segment_and_short_ones_one():
    assert counts("samplecnn-3-9", 59_049 * 20 + 5, 59_049, 59_048, 1) == [20, 1, 1, 1]
    # at another rate, 640 512 samples are no clip of the paper's
    assert counts("samplecnn-2-13", 661_500, sample_rate=16_000) == [40]


class Songs(NamedTuple):
    """Some clips of a cache, and the network that sees them."""

    audio: AudioCache
    clips: np.ndarray
    model: ModelConfig

    def take(self, per_clip: int | None = None) -> Segments:
        return consecutive_segments(self.audio, self.clips, model=self.model, per_clip=per_clip)

    def epoch(self, recipe: Recipe = PAPER, *, seed: int = 0, epoch: int = 0) -> Segments:
        return epoch_segments(self.audio, self.clips, model=self.model, recipe=recipe, seed=seed, epoch=epoch)


@pytest.fixture
def songs(audio: AudioCache, dataset: Dataset, small_config: ModelConfig) -> Songs:
    return Songs(audio, np.array([i for i, clip in enumerate(dataset.clips) if clip.part == "train"]), small_config)


def test_consecutive_segments_lie_end_to_end(songs: Songs):
    length = songs.model.input_length
    segments = songs.take()
    for row, clip in enumerate(songs.clips):
        starts = segments.starts[segments.clips == row]
        assert starts[0] == songs.audio.starts[clip]
        assert (np.diff(starts) == length).all()
        left = songs.audio.starts[clip] + songs.audio.lengths[clip] - starts[-1]
        assert length <= left < 2 * length
    few = songs.take(per_clip=7)
    assert (np.bincount(few.clips) == 7).all()
    assert set(few.starts.tolist()) < set(segments.starts.tolist())
    spread = np.diff(few.starts[few.clips == 0])
    assert spread.max() - spread.min() <= length


def test_paper_epochs_hold_whole_batches_in_another_order(songs: Songs):
    every = songs.take()
    first, second = (songs.epoch(seed=3, epoch=number) for number in (0, 1))
    assert len(every) % 23
    assert len(first) == len(second) == len(every) - len(every) % 23
    assert len(set(first.starts)) == len(first)
    assert set(first.starts) < set(every.starts)
    assert not np.array_equal(first.starts, second.starts)
    again = songs.epoch(seed=3, epoch=1)
    assert np.array_equal(second.starts, again.starts)
    other = songs.epoch(seed=4, epoch=1)
    assert not np.array_equal(second.starts, other.starts)


def test_paper_epochs_go_through_interleaved_subsets(songs: Songs):
    recipe = replace(PAPER, batch_size=2, subsets=3)
    segments = songs.epoch(recipe)
    counts = np.bincount(songs.take().clips)
    assert counts.sum() >= 3 * LEAST_BATCHES_OF_A_SUBSET * 2
    subsets = segments.clips % 3
    assert (np.diff(subsets) >= 0).all()
    for subset in range(3):
        whole = counts[subset::3].sum()
        assert (subsets == subset).sum() == whole - whole % 2
    few = songs.epoch(replace(recipe, batch_size=23))
    assert (np.diff(few.clips % 3) < 0).any(), "subsets of a few batches would drop too much"


def test_magnatagatune_gives_179_batches_a_subset():
    """15 244 clips of 10 segments: 37 subsets of 4 120 segments, of which 3 are left over."""
    clips = np.arange(15_244)
    samples = np.full(len(clips), 641_655)
    cache = SimpleNamespace(lengths=samples, starts=np.cumsum(samples) - samples, sample_rate=22_050)
    segments = Songs(cache, clips, config_from_name("samplecnn-3-9")).epoch()
    assert len(segments) == 37 * 179 * 23
    assert (np.bincount(segments.clips % 37) == 4_117).all()


def test_random_crops_stay_inside_their_clips_and_cover_them(songs: Songs):
    length = songs.model.input_length
    segments = songs.epoch(MODERN)
    assert (np.bincount(segments.clips) == MODERN.segments_per_clip).all()
    for row, clip in enumerate(songs.clips):
        offsets = np.sort(segments.starts[segments.clips == row] - songs.audio.starts[clip])
        room = songs.audio.lengths[clip] - length
        assert offsets[0] >= 0
        assert offsets[-1] <= room
        # one in each tenth of the clip
        assert np.array_equal(np.floor(offsets / (room + 1) * 10), np.arange(10))
    other = songs.epoch(MODERN, epoch=1)
    assert len(np.intersect1d(segments.starts, other.starts)) < 10


@pytest.mark.parametrize("each", [2, 4, 7])
def test_an_example_is_several_segments_of_one_clip(each: int, songs: Songs):
    recipe = replace(MODERN, segments_per_example=each, batch_size=4 * each)
    segments = songs.epoch(recipe)
    examples = segments.clips.reshape(-1, each)
    assert (examples == examples[:, :1]).all()
    assert (np.bincount(examples[:, 0]) == -(-MODERN.segments_per_clip // each)).all()
    assert (np.diff(examples[:, 0]) < 0).any(), "the clips come in another order than in the list"
    for row in range(len(songs.clips)):
        starts = segments.starts[segments.clips == row]
        assert len(set(starts.tolist())) == MODERN.segments_per_clip  # all are heard, some of them twice
    for example in segments.starts.reshape(-1, each):
        assert len(set(example.tolist())) == each
    other = songs.epoch(recipe, epoch=1)
    assert not np.array_equal(other.starts, segments.starts)


def test_a_clip_of_one_segment_is_an_example_of_it_alone(songs: Songs):
    """Six seconds hold two segments of 3^9; three are asked for."""
    songs = songs._replace(model=config_from_name("samplecnn-3-9"))
    segments = songs.epoch(replace(PAPER, segments_per_example=3, batch_size=6))
    assert len(segments) == 3 * len(songs.clips) == 3 * len(songs.take()) / 2
    assert all(len(set(starts)) == 2 for starts in segments.starts.reshape(-1, 3).tolist())


@pytest.mark.parametrize("how", ["all", "random", "shifted"])
def test_music_to_be_played_faster_is_read_further(how: str, songs: Songs):
    recipe = replace(
        MODERN, segments=how, segments_per_clip=None, augmentation=Augmentation(speed_probability=0.5, speed=0.2)
    )
    segments = songs.epoch(recipe)
    length = songs.model.input_length
    assert segments.width == pytest.approx(1.2 * length, abs=4)
    assert len(segments) == len(songs.take())
    first, whole = (kept[songs.clips][segments.clips] for kept in (songs.audio.starts, songs.audio.lengths))
    assert (segments.starts >= first).all()
    assert (segments.starts + segments.lengths <= first + whole).all()
    assert (segments.lengths >= length).all()
    assert (segments.lengths == segments.width).mean() > 0.9
    sources = (
        mapped_source(songs.audio, device=CPU),
        resident_source(songs.audio, songs.clips, width=segments.width, device=CPU),
    )
    last = segments.take(np.argsort(segments.starts)[-3:])
    waveforms = [source(last) for source in sources]
    assert torch.equal(*waveforms)
    assert waveforms[0].shape == (3, segments.width)


@pytest.mark.parametrize("batch_size", [1, 2, 23, 32])
@pytest.mark.parametrize("n", [1, 2, 11, 12, 22, 23, 24, 34, 35, 46, 1000])
def test_batches_hold_every_segment_once_and_none_is_tiny(n: int, batch_size: int):
    bounds = batch_bounds(n, batch_size=batch_size)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == n
    assert all(a[1] == b[0] for a, b in pairwise(bounds))
    sizes = [last - first for first, last in bounds]
    assert all(size == batch_size for size in sizes[:-1])
    assert sizes[-1] < 1.5 * batch_size or n <= batch_size
    if len(bounds) > 1:
        assert sizes[-1] >= batch_size / 2


def test_resident_audio_is_the_mapped_audio(songs: Songs):
    length = songs.model.input_length
    segments = songs.epoch().take(slice(0, 50))
    # the last segment of a clip, cut short: the rest must be zeros and not the next clip
    clip = songs.clips[2]
    end = int(songs.audio.starts[clip] + songs.audio.lengths[clip])
    short = Segments(np.array([2]), np.array([end - 100]), np.array([100]), length)
    mapped = mapped_source(songs.audio, device=CPU)
    resident = resident_source(songs.audio, songs.clips[::-1], width=length, device=CPU)
    for wanted in (segments, short):
        ours, theirs = mapped(wanted), resident(wanted)
        assert ours.dtype == torch.float32
        assert ours.shape == (len(wanted), length)
        assert torch.equal(ours, theirs)
    assert mapped(segments).abs().max() > 0.1
    assert not mapped(short)[0, 100:].any()


def test_prefetched_batches_keep_their_order_and_end_with_their_thread(songs: Songs):
    segments = songs.epoch()
    batches = [segments.take(slice(first, last)) for first, last in batch_bounds(len(segments), batch_size=100)]
    source = mapped_source(songs.audio, device=CPU)
    waits = [0.0]
    for wanted, (batch, waveforms, waited) in zip(batches, prefetched(source, batches), strict=True):
        assert batch is wanted
        assert torch.equal(waveforms, source(wanted))
        waits.append(waited)
    assert waits == sorted(waits)
    assert waits[-1] > 0
    for _ in prefetched(source, batches):
        break
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("samptag-batches")]


def test_an_error_while_loading_reaches_the_training(songs: Songs):
    def fail(segments: Segments) -> torch.Tensor:
        raise OSError(5, "Input/output error")

    batches = [songs.epoch()]
    with pytest.raises(OSError, match="Input/output"):
        list(prefetched(fail, batches))
