"""Proposers: each proposes transforms of one pair to start from, the best first.

A proposer is given the fixed and the moving image, B = 1 and normalised, and returns moving_from_fixed matrices in world
units, (K, D+1, D+1) float64; K is 0 if it found nothing. `drmime.start.refine` refines and compares the proposals of several.
Names are in `drmime.parts.PROPOSERS`.
"""
