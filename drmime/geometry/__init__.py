"""Where things lie: matrices, grids and their coordinate frames, generators of Lie groups."""
