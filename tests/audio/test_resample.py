"""The resampler gives resampy's samples, whatever the rates and however the stream is cut."""

import subprocess
import sys
from math import gcd

import numpy as np
import pytest
import resampy
from hypothesis import given, settings
from hypothesis import strategies as st

from samptag.audio.resample import MAX_PHASES, MAX_PRODUCT, Resampler, polyphase_bank, resample

RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000)
ODD_RATES = (44_101, 44_056, 22_255, 47_952, 37_800, 705_600)


@pytest.fixture(scope="module")
def waveform(music):
    """1.5 s of mono music at 44.1 kHz; the tests call it what they like."""
    return np.ascontiguousarray(music.samples[44_100 * 5 : 44_100 * 5 + 66_001].mean(axis=1))


def in_blocks(x, orig_rate, new_rate, sizes):
    resampler = Resampler(orig_rate, new_rate)
    parts, position = [], 0
    for size in sizes:
        parts.append(resampler.push(x[position : position + size]))
        position += size
    parts += [resampler.push(x[position:]), resampler.finish()]
    return np.concatenate(parts)


@pytest.mark.parametrize("new_rate", [22_050, 16_000])
@pytest.mark.parametrize("orig_rate", RATES + ODD_RATES)
def test_equals_resampy(waveform, orig_rate, new_rate):
    ours = resample(waveform, orig_rate, new_rate)
    theirs = resampy.resample(waveform, orig_rate, new_rate, filter="kaiser_best")
    assert ours.dtype == np.float32
    assert len(ours) == len(theirs)
    assert np.abs(ours - theirs).max() < 1e-4
    assert np.abs(theirs).max() > 0.1


@pytest.mark.parametrize("new_rate", [22_050, 16_000])
@pytest.mark.parametrize("orig_rate", RATES + ODD_RATES)
def test_cut_anywhere_gives_the_same_bits(waveform, orig_rate, new_rate):
    whole = resample(waveform, orig_rate, new_rate)
    cut = in_blocks(waveform, orig_rate, new_rate, [1, 2, 0, 3, 997, 8192, 20_011, 5])
    np.testing.assert_array_equal(cut, whole)


@settings(max_examples=40)
@given(
    rates=st.sampled_from([(44_100, 22_050), (48_000, 22_050), (16_000, 22_050), (44_101, 16_000), (22_050, 22_050)]),
    length=st.integers(0, 30_000),
    sizes=st.lists(st.integers(0, 9_000), max_size=12),
)
def test_property_blocks_equal_whole(music, rates, length, sizes):
    x = music.samples[44_100 : 44_100 + length, 0].copy()
    whole = resample(x, *rates)
    np.testing.assert_array_equal(in_blocks(x, *rates, sizes), whole)
    assert len(whole) == max(int(length * rates[1] / rates[0]), min(length, 1))


@pytest.mark.parametrize("length", [1, 2, 3, 63, 64, 127, 128, 129, 255, 256, 257])
@pytest.mark.parametrize("rates", [(44_100, 22_050), (48_000, 16_000), (8_000, 22_050), (44_101, 22_050)])
def test_short_inputs_equal_resampy(waveform, length, rates):
    x = waveform[20_000 : 20_000 + length]
    ours = resample(x, *rates)
    if int(length * rates[1] / rates[0]) == 0:
        assert len(ours) == 1  # resampy refuses; one sample keeps the sound of a one-sample file
    else:
        np.testing.assert_allclose(ours, resampy.resample(x, *rates, filter="kaiser_best"), atol=1e-4)


def test_same_rate_passes_samples_through(waveform):
    np.testing.assert_array_equal(in_blocks(waveform, 22_050, 22_050, [7, 500]), waveform)


def test_nothing_in_nothing_out():
    assert len(resample(np.zeros(0, dtype=np.float32), 44_100, 22_050)) == 0


def test_constant_level_is_kept():
    # the filter's pass-band ripple at 0 Hz; ends see the zeros outside
    y = resample(np.full(44_100, 0.5, dtype=np.float32), 44_100, 22_050)
    np.testing.assert_allclose(y[200:-200], 0.5, atol=1e-3)


@pytest.mark.parametrize("rates", [(0, 22_050), (-1, 22_050), (44_100, 0)])
def test_rates_must_be_positive(rates):
    with pytest.raises(ValueError, match="positive"):
        Resampler(*rates)


def test_ratio_below_the_filter_table_is_refused():
    with pytest.raises(ValueError, match="1/8192"):
        Resampler(1_000_000, 100)


@pytest.mark.parametrize("orig_rate", [rate for rate in RATES if rate != 22_050])
def test_products_stay_below_the_threading_threshold(waveform, monkeypatch, orig_rate):
    sizes, matmul = [], np.matmul

    def noting(stack, weights, **options):
        sizes.append(stack[0].size * weights.shape[1])
        return matmul(stack, weights, **options)

    monkeypatch.setattr(np, "matmul", noting)
    resample(waveform, orig_rate, 22_050)
    assert 0 < max(sizes) <= MAX_PRODUCT


def test_too_many_phases_share_a_small_bank(waveform):
    assert 22_050 // gcd(44_101, 22_050) > MAX_PHASES
    polyphase_bank.cache_clear()
    resample(waveform, 44_101, 22_050)
    assert polyphase_bank.cache_info().currsize == 0


def test_resampling_does_not_import_numba_or_resampy():
    code = (
        "import sys, numpy as np\n"
        "from samptag.audio.resample import resample\n"
        "resample(np.ones(5000, dtype=np.float32), 44100, 22050)\n"
        "print(sorted({'numba', 'resampy', 'scipy', 'torch', 'av'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
