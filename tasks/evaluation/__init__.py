"""Evaluation beyond the metrics: reports."""

from .report import EvaluationReport, ReportOptions
from .report_builder import evaluate_with_report

__all__ = ["EvaluationReport", "ReportOptions", "evaluate_with_report"]
