"""Scores of taggers: measures with intervals, published test procedures, predictions on file, degraded sound.

Importing this package loads no torch: predictions on file are scored without it.
"""

from samptag.evaluation.report import EvaluationReport, Scoring
from samptag.evaluation.run import evaluate, evaluate_scores, truth_of

__all__ = ["EvaluationReport", "Scoring", "evaluate", "evaluate_scores", "truth_of"]
