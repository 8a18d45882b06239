"""Two methods of OpenCV for 2-D images: ECC (Gauss-Newton on a correlation), and SIFT features with RANSAC."""

from typing import Any

import numpy as np

from drmime.errors import InputError, number, whole
from drmime.lab.peers.base import SMALLEST_SIDE, Problem, Run, only, package, usable
from drmime.registry import known

MOTIONS = ("translation", "euclidean", "affine", "homography")
ESTIMATORS = {"affine": "estimateAffine2D", "homography": "findHomography"}
LIMITS = (0.1, 99.9)  # percentiles mapped to 0 and 255; robust to hot pixels, unlike minimum and maximum
ROTATION = 1e-6  # largest deviation of a start from a rotation for "euclidean"


def ecc(problem: Problem, motion: str = "affine", levels: int = 4, iterations: int = 100, blur: int = 5) -> Run:
    """Maximise the enhanced correlation coefficient from the start, from coarse to fine; on gray images, in pixels.

    Evangelidis and Psarakis 2008, DOI 10.1109/TPAMI.2008.113; OpenCV's findTransformECC. It has no pyramid; here each
    level halves both images. The seed has no effect.

    Args:
        motion: "translation", "euclidean" (rigid in pixels), "affine" or "homography".
        levels: levels of the pyramid; fewer if a side would have less than 16 pixels.
        iterations: the largest number on each level, which ends earlier when the coefficient increases by less than 1e-6.
        blur: width of OpenCV's Gaussian filter on each level, in pixels, odd.

    Raises:
        InputError: images that are not 2-D, an unknown or invalid option, a start that is not a rotation for "euclidean",
            or OpenCV is not installed.
    """
    only("ecc", problem, 2)
    known("motion of ecc", motion, MOTIONS)
    levels, iterations = whole("levels", levels, 1), whole("iterations", iterations, 1)
    if whole("blur", blur, 1) % 2 == 0:
        raise InputError(f"blur: expected an odd number of pixels, got {blur}")
    linear = problem.start[:2, :2]
    if motion == "euclidean" and np.abs(linear @ linear.T - np.eye(2)).max() > ROTATION:
        raise InputError("ecc: euclidean motion expects a start that is a rotation in pixels. Use affine, or equal spacings.")
    cv2 = package("cv2")
    cv2.setNumThreads(problem.threads)
    images = [_bytes(pixels) for pixels in problem.grays()]
    levels = min(levels, 1 + int(np.log2(max(1, np.min(problem.sides) / SMALLEST_SIDE))))
    kind = getattr(cv2, f"MOTION_{motion.upper()}")
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, iterations, 1e-6)

    def run(seed: int) -> np.ndarray:
        matrix = problem.start
        for level in reversed(range(levels)):
            small = [_halved(cv2, image, level) for image in images]
            fixed, moving = (_small_from_full(image, half) for image, half in zip(images, small, strict=True))
            warp = (moving @ matrix @ np.linalg.inv(fixed)).astype(np.float32)
            warp = np.ascontiguousarray(warp if motion == "homography" else warp[:2])
            _, warp = cv2.findTransformECC(*small, warp, kind, criteria, None, blur)
            matrix = np.linalg.inv(moving) @ _square(warp) @ fixed
        return usable(matrix / matrix[2, 2])

    return run


def sift(problem: Problem, motion: str = "affine", features: int = 0, ratio: float = 0.75, threshold: float = 3.0) -> Run:
    """Match SIFT descriptors and fit a transform with RANSAC; on gray images, in pixels. The start is not used.

    SIFT: Lowe 2004, DOI 10.1023/B:VISI.0000029664.99615.94; RANSAC: Fischler and Bolles 1981, DOI 10.1145/358669.358692.
    OpenCV's RANSAC uses a fixed seed of its own; the seed here has no effect.

    Args:
        motion: "affine" or "homography".
        features: the largest number of features of each image, strongest first; 0 for all.
        ratio: a match counts if its distance is below `ratio` times that of the second best (Lowe's test).
        threshold: largest error of an inlier, in pixels of the moving image.

    Raises:
        InputError: images that are not 2-D, an unknown or invalid option, or OpenCV is not installed.
    """
    only("sift", problem, 2)
    estimator = ESTIMATORS[known("motion of sift", motion, ESTIMATORS)]
    features, ratio = whole("features", features, 0), number("ratio", ratio, 0, 1 + 1e-9)
    threshold = number("threshold", threshold, 0)
    cv2 = package("cv2")
    cv2.setNumThreads(problem.threads)
    images = [_bytes(pixels) for pixels in problem.grays()]

    def run(seed: int) -> np.ndarray:
        # without precise upscaling, keypoints are off by half a pixel of their octave, so more on coarse octaves
        detector = cv2.SIFT_create(nfeatures=features, enable_precise_upscale=True)
        (corners, of_fixed), (others, of_moving) = (detector.detectAndCompute(image, None) for image in images)
        found = None
        if min(len(corners), len(others)) > 1:
            pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(of_fixed, of_moving, k=2)
            good = [best for best, second in pairs if best.distance < ratio * second.distance]
            fixed = np.array([corners[match.queryIdx].pt for match in good])
            moving = np.array([others[match.trainIdx].pt for match in good])
            if len(good) > 3:
                found, _ = getattr(cv2, estimator)(fixed, moving, method=cv2.RANSAC, ransacReprojThreshold=threshold)
        if found is None:
            raise RuntimeError(f"sift: too few matches that agree, of {len(corners)} and {len(others)} features")
        return usable(_square(found))

    return run


def _bytes(pixels: np.ndarray) -> np.ndarray:
    """Convert to 8 bits between robust limits, as SIFT needs."""
    low, high = np.percentile(pixels, LIMITS)
    if high <= low:
        low, high = float(pixels.min()), float(pixels.max())
    return np.rint(255 * np.clip((pixels - low) / max(high - low, 1e-12), 0, 1)).astype(np.uint8)


def _halved(cv2: Any, image: np.ndarray, times: int) -> np.ndarray:
    """`image` with its sides divided by 2**times; each pixel is the mean of the pixels that it covers."""
    size = [max(1, length >> times) for length in image.shape[::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA) if times else image


def _small_from_full(full: np.ndarray, small: np.ndarray) -> np.ndarray:
    """small_from_full in pixels; the borders of both images coincide. shape: (3, 3)"""
    x, y = np.array(small.shape[::-1]) / full.shape[::-1]
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def _square(warp: np.ndarray) -> np.ndarray:
    """Convert (2, 3) or (3, 3) to (3, 3), float64."""
    return np.vstack([warp, [0, 0, 1]]) if len(warp) == 2 else np.array(warp, float)
