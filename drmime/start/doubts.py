"""`Doubt`: reasons why a result may be wrong, each with the figures that support it."""

import enum
from collections.abc import Mapping


class Doubt(enum.Enum):
    """A reason why a result may be wrong; each value is a sentence with placeholders for its figures."""

    CHANCE = "edges agree hardly better than at other places (peak ratio {ratio:.2f})"
    ELSEWHERE = "a start elsewhere has about as much evidence ({source}, {share:.0%} of the evidence for the one used)"
    SHIFTED = "{by} agree about as well, or better, when the start is shifted by {shift} ({share:.0%} of its score)"
    ALONE = "no other start was found than the given one"
    SCATTERED = "{near:.0%} of the image's blocks agree best where they lie, the others elsewhere"
    MIRRORED = (
        "the moving image seems to be mirrored: peak ratio {mirrored:.2f} when it is, {ratio:.2f} when it is not; pass "
        'start={{"name": "search", "mirrored": True}} to allow it'
    )

    def sentence(self, figures: "Figures") -> str:
        """The sentence shown to the user. KeyError, TypeError or ValueError if figures are missing or of another type."""
        return f"Doubtful: {self.value.format(**figures)}. Look at the overlay."


Figures = Mapping[str, float | str | list[float]]  # by placeholder
Doubts = Mapping[Doubt, Figures]
