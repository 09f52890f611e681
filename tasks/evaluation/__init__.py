"""Evaluation beyond the metrics: reports, and decision rules fitted to held-out rows."""

from .report import EvaluationReport, ReportOptions
from .report_builder import evaluate_with_report

__all__ = ["EvaluationReport", "ReportOptions", "evaluate_with_report"]
