"""Why a result may be wrong, as data: a reason and its figures, which make one sentence."""

import enum
from collections.abc import Mapping


class Doubt(enum.Enum):
    """A reason to look at the overlay; each value is a sentence with gaps for its figures."""

    CHANCE = "edges agree hardly better than at other places (peak ratio {ratio:.2f})"
    ELSEWHERE = "about as much speaks for a start elsewhere ({source}, {share:.0%} of the evidence for the one used)"
    SHIFTED = "{by} agree about as well, or better, when the start is shifted by {shift} ({share:.0%} of its score)"
    ALONE = "no other start was found than the given one"
    SCATTERED = "{near:.0%} of the image's blocks agree best where they lie, the others elsewhere"
    MIRRORED = (
        "the moving image seems to be mirrored: peak ratio {mirrored:.2f} when it is, {ratio:.2f} when it is not; pass "
        'start={{"name": "search", "mirrored": True}} to allow it'
    )

    def sentence(self, figures: "Figures") -> str:
        """What a user reads. Raises KeyError, TypeError or ValueError where figures are missing or of another kind."""
        return f"Doubtful: {self.value.format(**figures)}. Look at the overlay."


Figures = Mapping[str, float | str | list[float]]
Doubts = Mapping[Doubt, Figures]
