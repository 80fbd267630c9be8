"""Evaluation of newly trained models before they serve: metrics, statistics, promotion."""
