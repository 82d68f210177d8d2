import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from samptag.audio.decode import open_audio
from samptag.errors import UsageError
from samptag.evaluation.perturb import parse_perturbation

MEDIA = Path(__file__).parents[1] / "media" / "set"
RATE = 22_050


@pytest.fixture(scope="module")
def music():
    with open_audio(MEDIA / "driving-06-lava.opus", sample_rate=RATE) as stream:
        return np.concatenate(list(stream))


def heard(text, waveform, *, rate=RATE, key="clip", seed=0, block=4000):
    blocks = (waveform[start : start + block] for start in range(0, len(waveform), block))
    return np.concatenate(list(parse_perturbation(text).apply(blocks, sample_rate=rate, key=key, seed=seed)))


def decibels(power_ratio):
    return 10 * np.log10(power_ratio)


def band_power(waveform, low_hz, high_hz):
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))) ** 2
    frequencies = np.fft.rfftfreq(len(waveform), 1 / RATE)
    return spectrum[(frequencies >= low_hz) & (frequencies < high_hz)].sum()


@pytest.mark.parametrize(
    ("text", "kind", "amount", "name"),
    [
        ("noise:20dB", "noise", 20, "noise:20dB"),
        ("noise:-3", "noise", -3, "noise:-3dB"),
        ("gain:-6", "gain", -6, "gain:-6dB"),
        ("gain:+12 dB", "gain", 12, "gain:+12dB"),
        ("mp3:32k", "mp3", 32, "mp3:32k"),
        ("MP3:32kbit/s", "mp3", 32, "mp3:32k"),
        ("lowpass:4000", "lowpass", 4000, "lowpass:4000Hz"),
        ("lowpass:8kHz", "lowpass", 8000, "lowpass:8000Hz"),
        ("lowpass:3.5k", "lowpass", 3500, "lowpass:3500Hz"),
    ],
)
def test_what_people_write(text, kind, amount, name):
    parsed = parse_perturbation(text)
    assert (parsed.kind, parsed.amount, parsed.name) == (kind, amount, name)
    assert parse_perturbation(parsed.name) == parsed


@pytest.mark.parametrize(
    "text", ["", "noise", "noise:", "noise:loud", "reverb:2", "gain:6Hz", "lowpass:0", "mp3:-32", "gain:nan"]
)
def test_what_is_none_is_refused_with_the_forms(text):
    with pytest.raises(UsageError, match="write noise:SNRdB, gain:dB, mp3:KBITSk or lowpass:Hz"):
        parse_perturbation(text)


@pytest.mark.parametrize(
    ("text", "rate", "message"),
    [
        ("lowpass:11025", RATE, "nothing above 11025 Hz"),
        ("mp3:33k", RATE, "one of 8, 16, 24, 32"),
        ("mp3:320k", RATE, "160 kbit/s"),
        ("mp3:32k", 20_000, "cannot have the model's sample rate, 20000 Hz"),
    ],
)
def test_what_the_models_rate_does_not_allow(text, rate, message):
    with pytest.raises(UsageError, match=message):
        parse_perturbation(text).check(rate)


@pytest.mark.parametrize("text", ["noise:20dB", "gain:-6", "mp3:32k", "mp3:64k", "lowpass:4000"])
@pytest.mark.parametrize("length", [1, 1000, 70_001])
def test_length_is_kept_and_blocks_do_not_matter(music, text, length):
    clip = music[:length]
    whole = heard(text, clip, block=10**9)
    assert whole.shape == clip.shape
    assert whole.dtype == np.float32
    np.testing.assert_allclose(heard(text, clip, block=997), whole, atol=1e-6)


@pytest.mark.parametrize("text", ["noise:20dB", "gain:-6", "mp3:32k", "lowpass:4000"])
def test_no_samples_stay_no_samples(text):
    blocks = list(parse_perturbation(text).apply([], sample_rate=RATE, key="clip"))
    assert sum(map(len, blocks)) == 0


@pytest.mark.parametrize("snr", [20, 0])
def test_noise_has_the_level_asked_for_and_is_white(music, snr):
    noise = heard(f"noise:{snr}dB", music).astype(float) - music
    assert decibels(np.mean(np.square(music, dtype=float)) / np.mean(noise**2)) == pytest.approx(snr, abs=0.1)
    bands = [band_power(noise, low, low + 2000) for low in range(0, 10_000, 2000)]
    assert decibels(max(bands) / min(bands)) < 0.5


def test_noise_belongs_to_the_clip_and_the_seed(music):
    clip = music[:20_000]
    once = heard("noise:20dB", clip, key="a", seed=1)
    np.testing.assert_array_equal(once, heard("noise:20dB", clip, key="a", seed=1))
    assert not np.array_equal(once, heard("noise:20dB", clip, key="b", seed=1))
    assert not np.array_equal(once, heard("noise:20dB", clip, key="a", seed=2))


def test_noise_on_silence_is_silence():
    assert not heard("noise:20dB", np.zeros(5000, np.float32)).any()


def test_gain_changes_the_level_only_and_does_not_clip(music):
    np.testing.assert_allclose(heard("gain:-6", music), music * 0.501187, atol=1e-6)
    louder = heard("gain:12", music)
    assert np.abs(louder).max() > 1
    np.testing.assert_allclose(louder, music * 3.981072, rtol=1e-5)


def test_low_pass_keeps_what_is_below_and_removes_what_is_above(music):
    filtered = heard("lowpass:2000", music)
    for low, high in ((0, 500), (500, 1000), (1000, 1870)):
        assert decibels(band_power(filtered, low, high) / band_power(music, low, high)) == pytest.approx(0, abs=0.05)
    assert decibels(band_power(filtered, 2130, 8000) / band_power(music, 2130, 8000)) < -60
    # without delay: what is below the cut-off stays in place
    inside = slice(1000, len(music) - 1000)
    below = heard("lowpass:1800", music)[inside]
    np.testing.assert_allclose(heard("lowpass:4000", heard("lowpass:1800", music))[inside], below, atol=1e-4)


def test_low_pass_is_half_amplitude_at_its_frequency():
    impulse = np.zeros(8192, np.float32)
    impulse[4096] = 1
    response = np.abs(np.fft.rfft(heard("lowpass:4000", impulse)))
    at = np.interp([4000, 4000 * 15 / 16, 4000 * 17 / 16], np.fft.rfftfreq(8192, 1 / RATE), response)
    assert at[0] == pytest.approx(0.5, abs=0.01)
    assert at[1] == pytest.approx(1.0, abs=0.001)
    assert at[2] < 0.001


@pytest.fixture
def coded(tmp_path, monkeypatch):
    """The MP3 of a clip that is heard through one, otherwise a file without a name."""
    path = tmp_path / "coded.mp3"
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: path.open("w+b"))
    return path


@pytest.mark.parametrize(
    ("rate", "kbits"), [(RATE, 8), (RATE, 32), (RATE, 64), (RATE, 160), (16_000, 32), (44_100, 32), (44_100, 320)]
)
def test_mp3_is_as_small_as_it_says(music, coded, rate, kbits):
    """The size of the encoded file is the bit rate times its length, up to the codec's padding frames."""
    clip = np.tile(music, 2)
    heard(f"mp3:{kbits}k", clip, rate=rate)
    seconds = len(clip) / rate
    assert coded.stat().st_size * 8 / seconds / 1000 == pytest.approx(kbits, rel=0.03)
    assert soundfile.info(coded).samplerate == rate


@pytest.mark.parametrize("kbits", [24, 32, 48, 64, 128])
def test_mp3_stays_in_place_and_sounds_alike(music, kbits):
    """Both kinds of encoder delay are removed: the one the file notes, and the one it has no room to note."""
    coded = heard(f"mp3:{kbits}k", music)
    size = 2 * len(music)
    correlation = np.fft.irfft(np.fft.rfft(coded, size) * np.conj(np.fft.rfft(music, size)))
    assert int(np.argmax(correlation)) == 0
    below = heard("lowpass:3000", coded), heard("lowpass:3000", music)
    assert decibels(np.mean(below[1] ** 2) / np.mean((below[0] - below[1]) ** 2)) > 8


@pytest.mark.parametrize(("kbits", "delay"), [(32, 1105), (64, 0)])
def test_a_long_mp3_is_decoded_without_gaps(music, coded, kbits, delay):
    """Decoded in blocks it is what one single read gives: a seek between blocks would lose the bit reservoir."""
    clip = np.tile(music, 4)
    ours = heard(f"mp3:{kbits}k", clip)
    whole = soundfile.read(coded, dtype="float32")[0][delay : delay + len(clip)]
    np.testing.assert_allclose(ours, whole / 0.95, atol=1e-6)


@pytest.mark.parametrize(
    ("rate", "kbits"),
    [(RATE, 32), (RATE, 128), (44_100, 64), (44_100, 192), (44_100, 224), (44_100, 256), (44_100, 320)],
)
def test_mp3_keeps_the_level(music, rate, kbits):
    """The gain of what both have between 50 and 1000 Hz; LAME alone takes .45 dB off at most rates."""
    coded = heard(f"mp3:{kbits}k", music, rate=rate)
    before, after = np.fft.rfft(music), np.fft.rfft(coded)
    band = slice(*np.searchsorted(np.fft.rfftfreq(len(music), 1 / rate), [50, 1000]))
    gain = np.vdot(before[band], after[band]).real / np.vdot(before[band], before[band]).real
    assert decibels(gain**2) == pytest.approx(0, abs=0.08)


def test_32_kbits_lose_more_than_128(music):
    def error(kbits):
        return np.mean((heard(f"mp3:{kbits}k", music) - music) ** 2)

    assert error(16) > 2 * error(32) > 2 * error(128)
