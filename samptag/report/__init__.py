"""What samptag hears, in pictures: the report page, heat maps of words over time, spectra of learned filters."""

from samptag.report.page import FEW_SONGS, N_NEIGHBOURS, Neighbour, Report

__all__ = ["FEW_SONGS", "N_NEIGHBOURS", "Neighbour", "Report"]
