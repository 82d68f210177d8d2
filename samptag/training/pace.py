"""How fast an epoch goes, and whether the audio keeps up."""

import logging
import math

__all__ = ["Pace"]

logger = logging.getLogger("samptag")

# A run whose steps wait longer than this share of their time for segments says so.
WAIT_SHARE = 0.15
# The first steps of an epoch always wait; a share of less time than this says nothing.
LEAST_SECONDS = 2.0


class Pace:
    """The speed of the open epoch in this run.

    Attributes
    ----------
    segments_per_second : float
        Over all processes; NaN before the first step.
    wait_share : float
        Share of the time that steps waited for audio, in [0, 1].
    """

    def __init__(self) -> None:
        self.segments_per_second = math.nan
        self.wait_share = 0.0
        self._seconds = 0.0
        self._told = False

    def measure(self, segments: int, *, waited: float, seconds: float) -> None:
        """Take in that so many segments took so many seconds, of which some were waited."""
        self.segments_per_second, self.wait_share = segments / seconds, waited / seconds
        self._seconds = seconds

    def tell_waiting(self, share: float) -> None:
        """Warn, once, when the audio does not keep up with the training.

        Parameters
        ----------
        share : float
            The largest `wait_share` of all processes.
        """
        if share > WAIT_SHARE and self._seconds > LEAST_SECONDS and not self._told:
            self._told = True
            logger.warning(
                "%.0f %% of the time went by waiting for audio from the cache: a faster disk for --cache, or a GPU "
                "with room for the audio (--resident), would help",
                100 * share,
            )
