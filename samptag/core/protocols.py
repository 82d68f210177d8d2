"""Which segments of a clip a published test procedure scores; evaluation and validation during training share it.

NumPy is imported with the first call: the registry names protocols, and lists weights without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

Protocol = Literal["paper", "won", "all"]
"""paper: Lee 2017; won: Won 2020; all: every segment of the file, as `samptag tag` takes them."""

PUBLISHED: tuple[Protocol, ...] = ("paper", "won")

# The authors cut MagnaTagATune's clips to 640 512 samples at 22 050 Hz and took int(640000 / first_stride) // m**n
# segments of each (paper's script). Previews of up to 31 s count as such clips; longer ones are taken whole.
_PAPER_RATE = 22_050
_PAPER_CLIP = 640_512
_PAPER_COUNTED = 640_000
_PAPER_LONGEST = 31 * _PAPER_RATE
_WON_SEGMENTS = 16  # the default batch size of their eval.py


def paper_counts(n_samples: ArrayLike, *, length: int, sample_rate: int) -> NDArray[np.int64]:
    """How many segments of `length` samples, end to end from the first sample, the paper takes of clips, (clips,)."""
    import numpy as np

    lengths = np.asarray(n_samples, dtype=np.int64)
    counts = lengths // length
    if sample_rate == _PAPER_RATE:
        preview = (lengths >= _PAPER_CLIP) & (lengths <= _PAPER_LONGEST)
        counts = np.where(preview, _PAPER_COUNTED // length, counts)
    return np.maximum(counts, 1)


def segment_starts(
    n_samples: int, *, protocol: Literal["paper", "won"], length: int, sample_rate: int
) -> NDArray[np.int64]:
    """The first samples of the segments that a published procedure scores of one clip; a short clip is one, padded.

    "paper" takes `paper_counts` segments end to end, "won" sixteen as get_tensor in the eval.py of Won 2020's code.
    """
    import numpy as np

    if protocol == "paper":
        return np.arange(int(paper_counts(n_samples, length=length, sample_rate=sample_rate))) * length
    if n_samples < length:
        return np.zeros(1, dtype=np.int64)
    return np.arange(_WON_SEGMENTS) * ((n_samples - length) // _WON_SEGMENTS)
