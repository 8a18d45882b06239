"""Comparison of methods: data sets, other registration programs, experiments, error measures and tests, reports."""
