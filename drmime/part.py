"""`Part`: which of the pairs that `register` was given are registered together."""

from dataclasses import dataclass

from drmime.optimise import Run


@dataclass(frozen=True)
class Part:
    """A batch of the pairs that `register` was given."""

    pairs: tuple[int, ...] = (0,)  # their numbers in the lists given
    done: int = 0  # number of pairs in the batches before this one
    count: int = 1  # number of pairs in all batches

    @property
    def whole(self) -> bool:
        """Whether there is no other batch."""
        return len(self.pairs) == self.count


@dataclass(frozen=True)
class PartRun(Run):
    """A `Run` that says which pairs it registers."""

    part: Part


def part_of(run: Run) -> Part:
    """The part of a run; of a run that does not say it, all its pairs."""
    count = len(run.fixed.data)
    return run.part if isinstance(run, PartRun) else Part(tuple(range(count)), 0, count)
