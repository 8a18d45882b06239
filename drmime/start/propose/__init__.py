"""Where to start: each proposer proposes transforms of one pair, the best first.

A proposer is given the fixed and the moving image, B = 1 and normalised, and returns moving_from_fixed matrices in world
units, (K, D+1, D+1) float64; K is 0 where it found nothing. `drmime.start.refine` refines and compares what several of them
propose. Names are in `drmime.parts.PROPOSERS`.
"""
