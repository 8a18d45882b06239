"""Registers batches of pairs one after the other, so that neither Ctrl-C nor a failure loses what is finished."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch

from drmime.errors import InputError
from drmime.optimise import Stop
from drmime.pairs import Pair, batches, listed, without_locals
from drmime.part import Part
from drmime.result import Registration

Together = Callable[[Sequence[Pair], Part, bool], list[Registration]]  # registers one batch; the last: whether to begin it
NOT_BEGUN = "interrupted before this pair was begun"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during `register`; `registrations` holds the results so far, one per pair.

    Pairs of finished batches have their results, those of the current batch the best so far, and those of later batches their
    given start. Pairs that cannot be used (`errors="return"`), that failed, or that were not begun after a second Ctrl-C have
    an `InputError`.
    """

    def __init__(self, registrations: list[Any]) -> None:
        super().__init__("registration interrupted")
        self.registrations = registrations


class IncompleteError(InputError):
    """An error of one batch of `register` after others were finished; it is the `__cause__`.

    `registrations` holds one entry per pair: its `Registration`, or None if it has none.
    """

    def __init__(self, message: str, registrations: list[Registration | None]) -> None:
        super().__init__(message)
        self.registrations = registrations


def in_batches(pairs: Sequence[Pair | InputError], together: Together, errors: str) -> list[Any]:
    """The results of all pairs, in their order; in place of a pair that is an error, this error.

    A batch for which the memory is not enough is halved. If `errors` is "return", a batch that fails is registered again pair
    by pair, and a pair that fails has its error; errors that are not of the input become an `InputError` with this cause.

    Raises:
        Interrupted: Ctrl-C.
        KeyboardInterrupt: Ctrl-C before there is anything of a single pair.
        IncompleteError: the first error of a batch if `errors` is "raise" and another batch is finished.
        Exception: likewise, if none is finished.
    """
    results: list[Any] = list(pairs)
    waiting = deque(batches([pair for pair in pairs if isinstance(pair, Pair)]))
    count, done, begin = sum(map(len, waiting)), 0, True
    del pairs
    while waiting:
        batch, failure = waiting.popleft(), None
        part = Part(tuple(pair.number for pair in batch), done, count)
        try:
            found: Sequence[Any] = together(batch, part, begin)
        except KeyboardInterrupt:
            if count == 1:
                raise
            if begin:
                begin = False
                waiting.appendleft(batch)
                continue
            found = [InputError(NOT_BEGUN)] * len(batch)  # Ctrl-C again
        except Exception as error:
            failure = error
        if failure is not None:
            smaller = _smaller(batch, failure, errors == "return") if len(batch) > 1 else []
            if errors == "raise" and begin and not smaller:
                _raise(failure, part, results)
            without_locals(failure)  # which hold the images of the batch
            if smaller:
                waiting.extendleft(reversed(smaller))
                continue
            found = [as_input_error(failure)] * len(batch)
        begin = begin and not any(isinstance(one, Registration) and one.stop is Stop.INTERRUPTED for one in found)
        for pair, one in zip(batch, found, strict=True):
            results[pair.number] = one
        done += len(batch)
    if not begin:
        raise Interrupted(results) from None
    return results


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of a device is not enough."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def as_input_error(error: Exception) -> InputError:
    """An error as an `InputError`, of which it is the cause if it is another."""
    if isinstance(error, InputError):
        return error
    made = InputError(f"{type(error).__name__}: {' '.join(str(error).split())}")
    made.__cause__ = error
    return made


def _smaller(batch: list[Pair], failure: Exception, single: bool) -> list[list[Pair]]:
    """Smaller batches to try after a failure; none if the failure would be the same."""
    if out_of_memory(failure):
        half = len(batch) // 2
        return [batch[:half], batch[half:]]
    return [[pair] for pair in batch] if single else []


def _raise(failure: Exception, part: Part, results: Sequence[Any]) -> NoReturn:
    """Raise the failure of a batch, with the numbers of its pairs if it is one of several, and the results of those before."""
    if part.count == 1 or not (part.done or isinstance(failure, InputError)):
        raise failure
    text = f"{listed(part.pairs)}: {as_input_error(failure)}"
    if not part.done:
        raise InputError(text) from failure
    finished = [one if isinstance(one, Registration) else None for one in results]
    text += f" The results of {part.done} other pairs are in the error's `registrations`."
    raise IncompleteError(text, finished) from failure
