"""Shifts and small linear motions between images of one modality: normalised cross-correlation, and Gauss-Newton steps."""
