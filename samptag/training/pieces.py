"""How a fused layer goes over its input, and in which pieces."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Geometry", "Piece", "cut"]


@dataclass(frozen=True)
class Geometry:
    """How a layer goes over its input, (batch, rows, channels).

    Attributes
    ----------
    kernel : int
        Rows a filter sees.
    hop : int
        Rows from one frame to the next.
    phases : int
        Frames to a maximum.
    out_pads : tuple of int
        Rows of zeros around the output, for the next layer's 'same' convolution.
    """

    kernel: int
    hop: int
    phases: int
    out_pads: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Piece:
    """Segments `first` to `last`, pooled rows `start` to `stop` of each."""

    first: int
    last: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many rows it has over all its segments."""
        return (self.last - self.first) * (self.stop - self.start)

    def of(self, tensor: Tensor) -> Tensor:
        """Its rows of a contiguous (batch, rows, out) tensor, as a (rows, out) view."""
        return tensor[self.first : self.last, self.start : self.stop].view(-1, tensor.shape[2])


def cut(first: int, last: int, rows: int, limit: int) -> list[Piece]:
    """Segments `first` to `last` in pieces of at most `limit` rows: parts of one segment, or several whole ones."""
    if rows <= limit:
        step = limit // rows
        return [Piece(i, min(i + step, last), 0, rows) for i in range(first, last, step)]
    step = -(-rows // -(-rows // limit))
    return [Piece(i, i + 1, j, min(j + step, rows)) for i in range(first, last) for j in range(0, rows, step)]
