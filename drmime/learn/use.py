"""How `register` uses a representation: for which modality each image is taken, and which parts see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drmime.errors import InputError, shown
from drmime.image.image import Image
from drmime.learn.weights import Representation
from drmime.registry import known

USES = ("metric", "search", "all")


@dataclass(frozen=True, eq=False)
class Represented:
    """A representation for both images of a registration.

    Args:
        representation: the encoders.
        fixed, moving: names of the modalities of both images.
        use: "metric": the metric sees the representations, the search the images; "search": the other way round; "all": both
            see the representations alone. `experiments/comir.py` compares them.

    Raises:
        InputError: an unknown modality or use.
    """

    representation: Representation
    fixed: str
    moving: str
    use: str = "metric"

    def __post_init__(self) -> None:
        for modality in (self.fixed, self.moving):
            known("modality", modality, self.representation.modalities)
        known("use of a representation", self.use, USES)

    @classmethod
    def of(cls, spec: Any) -> "Represented | None":
        """The use that `register`'s option `representation` describes.

        Raises:
            InputError: a file or mapping that is none.
        """
        if spec is None or isinstance(spec, Represented):
            return spec
        options = dict(spec) if isinstance(spec, Mapping) else {"name": spec}
        name = options.pop("name", None)
        for option in options:
            known("option of representation", str(option), ("fixed", "moving", "use"))
        if not isinstance(name, (str, Path, Representation)):
            form = "the path of a safetensors file, a Representation, or a mapping with its name"
            raise InputError(f"representation: expected {form}, got {shown(spec)}")
        made = name if isinstance(name, Representation) else Representation.load(name)
        first, *others = made.modalities
        return cls(made, **{"fixed": first, "moving": others[0] if others else first, **options})

    def __call__(self, fixed: Image, moving: Image) -> tuple[Image, Image]:
        """Representations of two normalised images, in [0, 1] by one map for both, so that they can be compared.

        Raises:
            InputError: images of another dimension or other channels.
        """
        encoded = self.representation(fixed, self.fixed), self.representation(moving, self.moving)
        return encoded[0].normalised(), encoded[1].normalised(encoded[0])
