"""OpenCV's two ways: correlation raised by Gauss-Newton steps (ECC), and matched SIFT features with RANSAC. 2-D."""

from typing import Any

import numpy as np

from drmime.errors import InputError, number, whole
from drmime.lab.peers.base import SMALLEST_SIDE, Problem, Run, only, package, usable
from drmime.registry import known

MOTIONS = ("translation", "euclidean", "affine", "homography")
ESTIMATORS = {"affine": "estimateAffine2D", "homography": "findHomography"}
LIMITS = (0.1, 99.9)  # percentiles that become 0 and 255: one hot pixel ruins a minimum and maximum
ROTATION = 1e-6  # how far from a rotation a start may be for "euclidean"


def ecc(problem: Problem, motion: str = "affine", levels: int = 4, iterations: int = 100, blur: int = 5) -> Run:
    """Maximise the enhanced correlation coefficient from the start, from coarse to fine; on gray, in pixels.

    Evangelidis and Psarakis 2008, DOI 10.1109/TPAMI.2008.113; OpenCV's findTransformECC, which knows no pyramid: each level
    here halves both images. The seed changes nothing.

    Args:
        motion: "translation", "euclidean" (rigid in pixels), "affine" or "homography".
        levels: of the pyramid, fewer where a side would fall under 16 pixels.
        iterations: at most, on each level; less when the coefficient gains less than 1e-6.
        blur: width of OpenCV's Gaussian filter on each level, in pixels, odd.

    Raises:
        InputError: images that are not 2-D, an unknown option or one that cannot be used, a start with more than a
            rotation for "euclidean", or OpenCV is not installed.
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
    """Match SIFT descriptors, keep those that one transform explains; on gray, in pixels. It needs no start and uses none.

    SIFT: Lowe 2004, DOI 10.1023/B:VISI.0000029664.99615.94; RANSAC: Fischler and Bolles 1981, DOI 10.1145/358669.358692.
    OpenCV's RANSAC has a seed of its own: this one changes nothing.

    Args:
        motion: "affine" or "homography".
        features: of each image, the strongest; 0 for all.
        ratio: a match counts when the second best is further than the best by this factor (Lowe's test).
        threshold: pixels of the moving image within which a match agrees.

    Raises:
        InputError: images that are not 2-D, an unknown option or one that cannot be used, or OpenCV is not installed.
    """
    only("sift", problem, 2)
    estimator = ESTIMATORS[known("motion of sift", motion, ESTIMATORS)]
    features, ratio = whole("features", features, 0), number("ratio", ratio, 0, 1 + 1e-9)
    threshold = number("threshold", threshold, 0)
    cv2 = package("cv2")
    cv2.setNumThreads(problem.threads)
    images = [_bytes(pixels) for pixels in problem.grays()]

    def run(seed: int) -> np.ndarray:
        # without the precise upscaling keypoints lie half a small pixel off, by more the coarser they are
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
    """8 bits between robust limits, which is what SIFT takes."""
    low, high = np.percentile(pixels, LIMITS)
    if high <= low:
        low, high = float(pixels.min()), float(pixels.max())
    return np.rint(255 * np.clip((pixels - low) / max(high - low, 1e-12), 0, 1)).astype(np.uint8)


def _halved(cv2: Any, image: np.ndarray, times: int) -> np.ndarray:
    """`image` with sides of 1 / 2**times, each pixel the mean of those it covers."""
    size = [max(1, length >> times) for length in image.shape[::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA) if times else image


def _small_from_full(full: np.ndarray, small: np.ndarray) -> np.ndarray:
    """Pixels to those of the halved image: borders on borders. shape: (3, 3)"""
    x, y = np.array(small.shape[::-1]) / full.shape[::-1]
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def _square(warp: np.ndarray) -> np.ndarray:
    """(2, 3) or (3, 3) as (3, 3), float64."""
    return np.vstack([warp, [0, 0, 1]]) if len(warp) == 2 else np.array(warp, float)
