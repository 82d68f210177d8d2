"""Every network of the paper's grid."""

from samptag.core.config import PAPER_GRID, ModelConfig


def grid_configs() -> tuple[ModelConfig, ...]:
    """In the grid's order: by m, by segment, by number of modules."""
    return tuple(
        ModelConfig(m=m, n=n, first_filter=length // m**n, first_stride=length // m**n)
        for m, length, depths in PAPER_GRID
        for n in depths
    )
