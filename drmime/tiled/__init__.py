"""Warping tile by tile: neither the image nor the result has to fit the memory."""
