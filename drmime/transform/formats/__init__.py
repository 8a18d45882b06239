"""Transforms in files and objects of other programs.

Every transform here takes points of the fixed image to points of the moving image, as in ITK: in world coordinates, x first
(LPS millimetres where the images' files state units, as in ITK; else pixels).
"""
