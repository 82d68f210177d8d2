"""Scores of taggers: measures with intervals, reports, predictions on file, degraded listening."""
