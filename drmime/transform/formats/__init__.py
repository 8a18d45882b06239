"""Transforms in files and objects of other programs.

Every transform here takes points of the fixed image to points of the moving image, as in ITK: in world coordinates, x first
(LPS millimetres for medical formats, micrometres for TIFF with lengths, else pixels or the spacing given).
"""
