"""Points and outlines in files: landmarks, annotations, keypoints. They are read, and moved with all else in the file kept.

Points are pixels of their image, 0-based, at pixel centres, x first, whatever the file counts from.
"""
