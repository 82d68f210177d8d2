"""Scores of taggers: measures with intervals, reports, predictions on file, degraded listening.

Importing this package loads no torch: predictions on file are scored without it.
"""

from samptag.evaluation.report import EvaluationReport
from samptag.evaluation.run import assist, evaluate, evaluate_scores, truth_of
from samptag.evaluation.scoring import Scoring

__all__ = ["EvaluationReport", "Scoring", "assist", "evaluate", "evaluate_scores", "truth_of"]
