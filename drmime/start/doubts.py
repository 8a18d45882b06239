"""`Doubt`: reasons why a result may be wrong, each with the figures that support it and with what to try."""

import enum
import string
from collections.abc import Mapping


class Doubt(enum.Enum):
    """A reason why a result may be wrong; each value is what was seen, with placeholders for its figures, and what to try.

    `usual` is what 95 % of right results reach (`experiments/README.md`).
    """

    CHANCE = (
        "edges agree {peak_ratio:.2f} times as well as at the best other place (usual: at least {usual:.2f})",
        "Mask what only one image shows (fixed_mask, moving_mask).",
    )
    SCATTERED = (
        "the edges of {agreeing:.0f} of {blocks:.0f} blocks of the image agree best where they lie "
        "(weighted {in_place:.0%}, usual: at least {usual:.0%})",
        "Look at the overlay; allow a more general transform if parts of the image are displaced against each other.",
    )
    UNSEEN = (
        "no block of the image has edges in both images that could be compared",
        "Use larger images or wider masks if there are any; look at the overlay.",
    )
    DISPLACED = (
        "most blocks of the image agree better when displaced by {residual:.1%} of the diagonal (usual: at most {usual:.1%})",
        'Take more steps at a higher rate (schedule={{"steps": 250, "rate": 0.005}}), or a more general transform.',
    )
    UNRELATED = (
        "mutual information of intensities is {information:.1f} standard deviations above that at other shifts "
        "(usual: at least {usual:.1f})",
        "Check that both images show the same scene.",
    )
    OVERLAP = (
        "the images overlap by {overlap:.0%} (usual: at least {usual:.0%})",
        "If they overlap by more, pass a start near the right place, or landmarks.",
    )
    DISTORTED = (
        "the transform stretches, or changes the scale, by {distortion:.2f} (usual: at most {usual:.2f})",
        "Pass fixed_spacing and moving_spacing, or a transform with fewer parameters.",
    )
    ELSEWHERE = (
        "a start elsewhere has {rival:.0%} of the evidence (usual: at most {usual:.0%})",
        "Pass a start near the right place, or landmarks.",
    )
    SHIFTED = (
        "{by} agree about as well, or better, when the transform is shifted by {shift} ({share:.0%} of its score)",
        "If a texture repeats, pass a start within half a period and start's refine=False, or mask the texture.",
    )
    ALONE = ("no other start was found than the given one", "Pass a start near the right place, or landmarks.")
    MIRRORED = (
        "the moving image seems to be mirrored: peak ratio {mirrored:.2f} when it is, {ratio:.2f} when it is not",
        'Pass start={{"name": "search", "mirrored": True}} to allow it.',
    )
    IMPROBABLE = (
        "the figures together are those of a right result with probability {probability:.0%}",
        "Look at the overlay.",
    )

    @property
    def figures(self) -> list[str]:
        """The names of the placeholders."""
        return [name for part in self.value for _, name, _, _ in string.Formatter().parse(part) if name]

    def sentence(self, figures: "Figures") -> str:
        """What was seen and what to try. KeyError, TypeError or ValueError if figures are missing or of another type."""
        seen, advice = (part.format_map(figures) for part in self.value)
        return f"{seen[0].upper()}{seen[1:]}. {advice}"


Figures = Mapping[str, float | str | list[float]]  # by placeholder
Doubts = Mapping[Doubt, Figures]
