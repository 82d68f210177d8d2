"""Which segments of a clip are scored, by choice or by a published test procedure; loads nothing heavy."""

from typing import Literal

# paper: Lee 2017; won: Won 2020; all: every segment of the file, as in `samptag tag`.
Protocol = Literal["paper", "won", "all"]

# What becomes of the samples after the last whole segment; see `samptag.core.segmenter.Segmenter`.
Tail = Literal["overlap", "pad", "drop"]

PUBLISHED: tuple[Protocol, ...] = ("paper", "won")

# The authors cut MagnaTagATune's clips to 640 512 samples at 22 050 Hz and took int(640000 / first_stride) // m**n
# segments of each (the paper's script). Clips of up to 31 s count as such; longer ones are taken whole.
_PAPER_RATE = 22_050
_PAPER_CLIP = 640_512
_PAPER_COUNTED = 640_000
_PAPER_LONGEST = 31 * _PAPER_RATE
_WON_SEGMENTS = 16  # the default batch size of their eval.py


def paper_count(n_samples: int, *, length: int, sample_rate: int) -> int:
    """How many segments of `length` samples the paper takes of a clip, end to end from the first sample."""
    if sample_rate == _PAPER_RATE and _PAPER_CLIP <= n_samples <= _PAPER_LONGEST:
        n_samples = _PAPER_COUNTED
    return max(n_samples // length, 1)


def segment_starts(n_samples: int, *, protocol: Literal["paper", "won"], length: int, sample_rate: int) -> list[int]:
    """Where the segments start that a published procedure scores of one clip, in samples; a short clip has one, padded.

    "paper" takes `paper_count` segments end to end, "won" takes sixteen, as get_tensor does in the eval.py of Won 2020.
    """
    if protocol == "paper":
        return [i * length for i in range(paper_count(n_samples, length=length, sample_rate=sample_rate))]
    hop = (n_samples - length) // _WON_SEGMENTS
    return [i * hop for i in range(_WON_SEGMENTS)] if n_samples >= length else [0]
