"""Pixels on a grid: files, the door where images are checked, pyramids, and what of an image is not of the scene."""
