"""The teacher: musicnn's two MagnaTagATune networks in PyTorch, from the files of the PyPI package.

Their layers are those of musicnn 0.1.0 (models.py: ``frontend``, ``midend``, ``backend`` and ``vgg``), their weights
those of its checkpoints, tensor by tensor, in TensorFlow's layout and under TensorFlow's names ("conv2d/kernel" is
stored as "conv2d.kernel"). Left out is the package's cast of spectrograms to float16, which overflows on loud music.
"""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file, save
from torch import Tensor

from samptag.core.mel import mel_filters
from samptag.errors import DownloadError, WeightsError
from samptag.files import atomic_write
from samptag.pretrained.tensor_bundle import read_bundle

__all__ = ["EMBEDDING", "SAMPLE_RATE", "WINDOW", "Teacher", "make_teacher", "teacher_files"]

# musicnn 0.1.0, configuration.py
SAMPLE_RATE = 16_000
FFT_LENGTH, FFT_HOP, BANDS = 512, 256, 96
FRAMES = 188  # of 187.5, rounded up: 3 s
WINDOW = FFT_HOP * FRAMES
NETWORKS = ("mtt_musicnn", "mtt_vgg")
EMBEDDING = 200 + 256  # what the last layers of both hear
PACKAGE = "musicnn==0.1.0"

_BN_EPSILON = 1e-3  # tf.layers.batch_normalization
_OPTIMISER_WORDS = ("Adam", "beta1_power", "beta2_power", "Momentum", "optimizer")


def teacher_files(folder: Path) -> tuple[Path, ...]:
    """The weights files of a teacher in `folder`."""
    return tuple(folder / f"{name}.safetensors" for name in NETWORKS)


def make_teacher(folder: Path, *, package: Path | None = None) -> None:
    """Write the weights of both networks to `folder`.

    Parameters
    ----------
    folder : Path
    package : Path or None
        The wheel or source archive of musicnn 0.1.0; None to have pip fetch it.

    Raises
    ------
    DownloadError
        pip cannot fetch it.
    WeightsError
        The package is not what it should be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        there = Path(temporary)
        _unpack(package or _fetch(there), there / "unpacked")
        for name, target in zip(NETWORKS, teacher_files(folder), strict=True):
            indices = sorted((there / "unpacked").rglob(f"{name.replace('mtt', 'MTT')}*/*.index"))
            if not indices:
                raise WeightsError(f"{package or PACKAGE} holds no checkpoint {name.replace('mtt', 'MTT')}")
            tensors = read_bundle(indices[0])
            kept = {
                key.replace("/", "."): value
                for key, value in tensors.items()
                if not any(word in key for word in _OPTIMISER_WORDS)
            }
            with atomic_write(target) as file:
                file.write(save(kept))


def _fetch(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE, "--dest", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = sorted(folder.glob("musicnn-*"))
    if done.returncode or not found:
        reason = (done.stderr.strip().splitlines() or ["no file came"])[-1]
        raise DownloadError(f"pip cannot fetch {PACKAGE} ({reason}); give the file with --musicnn")
    return found[0]


def _unpack(package: Path, folder: Path) -> None:
    try:
        if zipfile.is_zipfile(package):
            with zipfile.ZipFile(package) as archive:
                archive.extractall(folder)
        else:
            with tarfile.open(package) as archive:
                archive.extractall(folder, filter="data")
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{package} cannot be unpacked: {error}") from None


class Teacher:
    """Both networks, which hear the same log-mel spectrograms.

    Parameters
    ----------
    folder : Path
        Where `make_teacher` wrote.

    Raises
    ------
    WeightsError
        The files are not there.
    """

    def __init__(self, folder: Path) -> None:
        missing = [file for file in teacher_files(folder) if not file.is_file()]
        if missing:
            raise WeightsError(f"{missing[0]} is not there; run the step teacher")
        self._networks = tuple(_Network(file) for file in teacher_files(folder))
        self._window = torch.hann_window(FFT_LENGTH)
        self._bands = torch.from_numpy(mel_filters(SAMPLE_RATE, n_fft=FFT_LENGTH, n_bands=BANDS))

    @torch.inference_mode()
    def __call__(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits and embeddings of windows of sound.

        Parameters
        ----------
        windows : ndarray of float32, (k, WINDOW)
            Mono, at 16 kHz.

        Returns
        -------
        ndarray of float32, (k, 2, 50)
            Of MTT_musicnn and of MTT_vgg; the sigmoid is the score.
        ndarray of float32, (k, EMBEDDING)
            The inputs of their last layers: the hidden layer of MTT_musicnn, then the last pool of MTT_vgg.
        """
        mel = self._log_mel(torch.from_numpy(windows))
        musicnn, vgg = self._networks
        hidden, pooled = _musicnn(musicnn, mel), _vgg(vgg, mel[:, : FRAMES - 1])
        logits = torch.stack([musicnn.dense(hidden, "dense_1"), vgg.dense(pooled, "dense")], dim=1)
        return logits.numpy(), torch.cat([hidden, pooled], dim=1).numpy()

    def _log_mel(self, windows: Tensor) -> Tensor:
        """(k, samples) -> (k, frames, bands), log10(1 + 10 000 power)."""
        spectrum = torch.stft(
            windows, FFT_LENGTH, FFT_HOP, window=self._window, center=True, pad_mode="constant", return_complex=True
        )
        power = spectrum.abs().square()[:, :, :FRAMES]
        return torch.log10(1 + 1e4 * (self._bands @ power)).transpose(1, 2)


class _Network:
    """One network's tensors by TensorFlow's names, and the layers made of them."""

    def __init__(self, file: Path) -> None:
        self._tensors = {name: torch.from_numpy(value) for name, value in load_file(file).items()}
        self._norms: dict[int, tuple[Tensor, Tensor]] = {}

    def norm(self, x: Tensor, number: int, *, axis: int) -> Tensor:
        """The batch normalisation `number` over `axis`."""
        if number not in self._norms:
            prefix = "batch_normalization" + (f"_{number}" if number else "")
            gamma, beta, mean, variance = (
                self._tensors[f"{prefix}.{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
            )
            scale = gamma * torch.rsqrt(variance + _BN_EPSILON)
            self._norms[number] = scale, beta - mean * scale
        shape = [1] * x.ndim
        shape[axis] = -1
        scale, shift = self._norms[number]
        return x * scale.view(shape) + shift.view(shape)

    def convolution(self, x: Tensor, name: str, padding: tuple[int, int, int, int]) -> Tensor:
        """Convolution and ReLU of (k, channels, time, bands); zeros before and after the bands, then the time."""
        kernel = self._tensors[f"{name}.kernel"].permute(3, 2, 0, 1).contiguous()
        return F.relu(F.conv2d(F.pad(x, padding), kernel, self._tensors[f"{name}.bias"]))

    def dense(self, x: Tensor, name: str) -> Tensor:
        """The linear layer `name`."""
        return x @ self._tensors[f"{name}.kernel"] + self._tensors[f"{name}.bias"]


# The filters of musicnn's front end: layer, number of its norm, length in time.
_FRONT = (("conv2d", 1, 7), ("conv2d_1", 2, 7), ("conv2d_2", 3, 128), ("conv2d_3", 4, 64), ("conv2d_4", 5, 32))
# vgg's pools: size and stride as (time, bands).
_POOLS = (((4, 1), (2, 2)), ((2, 2), (2, 2)), ((2, 2), (2, 2)), ((2, 2), (2, 2)), ((4, 4), (4, 4)))


def _musicnn(net: _Network, mel: Tensor) -> Tensor:
    """(k, 188, 96) -> the hidden layer, (k, 200)."""
    x = net.norm(mel[:, None], 0, axis=1)
    front = []
    for name, number, length in _FRONT:
        y = net.convolution(x, name, (0, 0, (length - 1) // 2, length // 2))
        front.append(net.norm(y, number, axis=1).amax(dim=3))
    levels = [torch.cat(front, dim=1)]  # (k, channels, time)
    for name, number in (("conv2d_5", 6), ("conv2d_6", 7), ("conv2d_7", 8)):
        y = net.convolution(levels[-1].transpose(1, 2)[:, None], name, (0, 0, 3, 3)).squeeze(3)
        y = net.norm(y, number, axis=1)
        levels.append(y if number == 6 else levels[-1] + y)
    total = torch.cat(levels, dim=1)
    pooled = torch.stack([total.amax(dim=2), total.mean(dim=2)], dim=2).flatten(1)
    return net.norm(F.relu(net.dense(net.norm(pooled, 9, axis=1), "dense")), 10, axis=1)


def _vgg(net: _Network, mel: Tensor) -> Tensor:
    """(k, 187, 96) -> the last pool, (k, 256)."""
    x = net.norm(mel[:, None], 0, axis=1)
    for number, (size, stride) in enumerate(_POOLS, start=1):
        x = F.max_pool2d(net.norm(net.convolution(x, f"{number}CNN", (1, 1, 1, 1)), number, axis=1), size, stride)
    return x.permute(0, 2, 3, 1).flatten(1)
