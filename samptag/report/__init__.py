"""What samptag hears, to be looked at: the report page, heat maps of words against time, spectra of learned filters."""

from samptag.report.page import Report

__all__ = ["Report"]
