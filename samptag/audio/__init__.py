"""Sound from files: any format, any rate, as blocks of mono float32 at the model's sample rate."""

from samptag.audio.decode import SUFFIXES, AudioStream, open_audio
from samptag.audio.resample import Resampler, resample

__all__ = ["SUFFIXES", "AudioStream", "Resampler", "open_audio", "resample"]
