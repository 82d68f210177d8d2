"""Scores of taggers: measures with intervals, test procedures, predictions on file, degraded sound; loads no torch."""

from samptag.evaluation.report import EvaluationReport, Scoring
from samptag.evaluation.run import evaluate, evaluate_scores, truth_of

__all__ = ["EvaluationReport", "Scoring", "evaluate", "evaluate_scores", "truth_of"]
