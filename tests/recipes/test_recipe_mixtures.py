"""Mixtures: what is drawn from music, that the teacher hears just that, and how the student meets them."""

import numpy as np
import pytest

from recipes.samplecnn_3_9_mtat50.collection import Track
from recipes.samplecnn_3_9_mtat50.mixtures import Mixer, labelled_mixtures
from recipes.samplecnn_3_9_mtat50.store import SEGMENT, Store, write_array
from recipes.samplecnn_3_9_mtat50.tags import TAGS
from recipes.samplecnn_3_9_mtat50.teacher import EMBEDDING, WINDOW
from recipes.samplecnn_3_9_mtat50.windows import MIXTURE, Windows
from samptag.audio.decode import open_audio

RARE = 7  # the tag that only the quiet track has


def listening(windows):
    """In the teacher's place: the level of each window, so that it shows which sound was heard."""
    level = windows.std(axis=1)
    assert windows.shape[1] == WINDOW
    logits = np.broadcast_to(level[:, None, None], (len(windows), 2, len(TAGS)))
    return logits, np.broadcast_to(level[:, None], (len(windows), EMBEDDING))


@pytest.fixture
def labelled(tmp_path, media):
    """A store with two tracks of the same music: one loud, and one a hundred times quieter that has the rare tag."""
    with open_audio(media / "eastern-dreams.mp3", sample_rate=22_050) as stream:
        music = np.concatenate(list(stream))[:220_500]
    store, tracks = Store(tmp_path), []
    for name, gain in (("loud", 1.0), ("quiet", 0.01)):
        track = Track(key=name, path=tmp_path / name, source="orois")
        write_array(store.audio_file(track), np.rint(gain * music * 32_767).astype("<i2"))
        n = 2 * len(music) // SEGMENT - 1
        logits = np.full((n, 2, len(TAGS)), -5, np.float16)
        logits[:, :, RARE] = 5 if name == "quiet" else -9
        write_array(store.logits_file(track), logits)
        write_array(store.embeddings_file(track), np.zeros((n, EMBEDDING), np.float16))
        tracks.append(track)
    return store, tracks


def test_the_teacher_hears_the_very_sound_that_is_kept(labelled):
    mixer = Mixer(Windows(*labelled))
    sounds, logits, embeddings = labelled_mixtures(mixer, listening, 12, np.random.default_rng(0))
    assert sounds.shape == (12, MIXTURE)
    assert sounds.dtype == np.int16
    assert logits.shape == (12, 2, len(TAGS))
    assert embeddings.shape == (12, EMBEDDING)
    # Resampling to 16 kHz takes no more than the treble away.
    levels = sounds.std(axis=1) / 32_768
    np.testing.assert_allclose(logits[:, 0, 0], levels, rtol=0.15)
    assert levels.std() > 0.01
    again, *_ = labelled_mixtures(mixer, listening, 12, np.random.default_rng(0))
    np.testing.assert_array_equal(sounds, again)
    other, *_ = labelled_mixtures(mixer, listening, 12, np.random.default_rng(1))
    assert not np.array_equal(sounds, other)


def test_music_with_rare_tags_is_drawn_more_often(labelled):
    store, (loud, quiet) = labelled
    mixer = Mixer(Windows(store, [*[loud] * 29, quiet]))  # one track in thirty has the tag
    drawn = [mixer.draw(np.random.default_rng(seed)).std() for seed in range(200)]
    quiet_ones = sum(level < 0.01 for level in drawn)  # the quiet track alone, or first of two
    assert 12 < quiet_ones < 60


def test_sounds_are_played_at_other_speeds_and_fade_into_each_other(labelled):
    store, (loud, quiet) = labelled
    mixer = Mixer(Windows(store, [loud, quiet]))
    sounds = [mixer.draw(np.random.default_rng(seed)) for seed in range(40)]
    assert all(np.abs(sound).max() <= 1 for sound in sounds)
    assert all(sound.shape == (MIXTURE,) for sound in sounds)
    assert all(sound.any() for sound in sounds)
    # Whole pieces of the track at its own speed are the exception.
    music = store.audio(loud)[:].astype(np.float32) / 32_768
    plain = sum(_is_part(sound, music) for sound in sounds)
    assert plain < 8


def _is_part(sound, music):
    """Whether some place of the music holds this sound, whatever its level."""
    head = sound[:2048] - sound[:2048].mean()
    length = 1 << (len(music) + len(head)).bit_length()
    found = np.fft.irfft(np.fft.rfft(music, length) * np.fft.rfft(head, length).conj(), length)[: len(music) - 2048]
    squares = np.cumsum(np.concatenate([[0], music**2]))
    norms = np.sqrt(squares[2048:-1] - squares[: len(music) - 2048]) * np.linalg.norm(head) + 1e-9
    return bool((found / norms).max() > 0.995)


def test_the_student_meets_mixtures_as_often_as_asked_and_never_past_their_ends(labelled):
    store, tracks = labelled
    sounds, logits, embeddings = labelled_mixtures(Mixer(Windows(*labelled)), listening, 6, np.random.default_rng(0))
    for number in (0, 1):
        files = store.mixture_files(number)
        write_array(files.audio, sounds)
        write_array(files.logits, logits)
        write_array(files.embeddings, embeddings)
    alone = Windows(store, tracks)
    windows = Windows(store, tracks, mixtures=store.mixtures(), share=0.25)
    assert len(windows) == len(alone) + 12 == len(windows.logits) == len(windows.embeddings)
    assert windows.chances[len(alone) :].sum() == pytest.approx(0.25)
    middle = (MIXTURE - SEGMENT) // 2
    heard = windows.plain(np.array([len(alone) + 7]))[0] * 32_768
    np.testing.assert_array_equal(heard, sounds[1, middle + 1 :][:SEGMENT])
    for shift in (-50_000, 50_000):
        edge = MIXTURE - SEGMENT if shift > 0 else 0
        heard = windows.around(len(alone) + 1, SEGMENT, shift) * 32_768
        np.testing.assert_array_equal(heard, sounds[1, edge:][:SEGMENT])
