"""Homogeneous matrices, grids and their coordinate frames, generators of Lie groups."""
