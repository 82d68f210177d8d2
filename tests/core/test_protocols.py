"""Published choices of segments, against the words of their authors' scripts."""

import pytest
from paper_grid import grid_configs

from samptag.core.protocols import paper_count, segment_starts

PREVIEW = 642_184  # samples of a MagnaTagATune clip of 29.124 s at 22 050 Hz


@pytest.mark.parametrize("config", grid_configs(), ids=lambda config: config.name)
def test_paper_takes_the_segments_of_the_authors_script(config):
    """int(640000 / first_stride) // m**n of each preview, whatever its exact length; 10 for 3^9."""
    written = int(640_000 / config.first_stride) // config.m**config.n
    for n_samples in (640_512, PREVIEW, 31 * 22_050):
        starts = segment_starts(n_samples, protocol="paper", length=config.input_length, sample_rate=22_050)
        assert starts == [i * config.input_length for i in range(written)]
    if config.input_length == 59_049:
        assert written == 10


def test_paper_takes_what_is_whole_of_other_clips():
    lengths = [1, 59_048, 59_049, 118_098 + 5, 640_511, 31 * 22_050 + 1]
    assert [paper_count(each, length=59_049, sample_rate=22_050) for each in lengths] == [1, 1, 1, 2, 10, 11]
    # 31 s and a little are 11 whole segments, of which a preview gives 10; other rates know no previews
    assert paper_count(31 * 22_050, length=59_049, sample_rate=22_050) == 10
    assert paper_count(31 * 22_050, length=59_049, sample_rate=16_000) == 11


@pytest.mark.parametrize("n_samples", [59_049, 59_049 + 15, 59_049 + 16, 465_984, 4_000_000])
def test_won_takes_sixteen_evenly_spaced_ones(n_samples):
    hop = (n_samples - 59_049) // 16
    starts = segment_starts(n_samples, protocol="won", length=59_049, sample_rate=16_000)
    assert starts == [i * hop for i in range(16)]
    assert starts[-1] + 59_049 <= n_samples


@pytest.mark.parametrize("protocol", ["paper", "won"])
def test_a_short_clip_is_one_segment(protocol):
    assert segment_starts(59_048, protocol=protocol, length=59_049, sample_rate=16_000) == [0]
