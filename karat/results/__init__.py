"""Metrics, results, failures, provenance, statistics and the store."""
