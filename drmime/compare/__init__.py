"""Metrics: the similarity of two images at given points; larger is always better."""
