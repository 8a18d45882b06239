"""Builds parts (metrics, samplers, proposers, …) from specifications and the dicts of `drmime.parts`, one for each kind.

A specification is a name, a mapping with a `name` and options, `"module:attribute"`, or an object.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from drmime.errors import InputError, shown

Form = TypeVar("Form")
_code = ContextVar("code", default=True)  # whether "module:attribute" is imported


class Parts(Mapping[str, Callable[..., Any]]):
    """A mapping of names to classes or functions that make parts, imported on first use from "module:attribute"."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        module, _, attribute = self._places[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@contextmanager
def names_only(on: bool = True) -> Iterator[None]:
    """While `on`, "module:attribute" is an error and nothing is imported for it: a file must not choose what code runs."""
    token = _code.set(_code.get() and not on)
    try:
        yield
    finally:
        _code.reset(token)


def build(kind: str, table: Mapping[str, Callable[..., Any]], spec: Any, of: type = object) -> Any:
    """The part that `spec` describes, made from `table`; it must be an instance of `of`.

    `kind` is the name of the kind in messages. A specification is a name of the table, `{"name": …, option: …}`, an
    importable `"module:attribute"` (only ever from the caller, never from a file; see `names_only`), or an object,
    which is returned as it is.

    Raises:
        InputError: an unknown name or option; the message lists the known ones and the nearest. Also an option that is missing,
            code that cannot be imported, or a part that is no instance of `of`.
    """
    part = _built(kind, table, spec)
    if isinstance(part, of):
        return part
    raise InputError(f"{kind}: expected one of {', '.join(sorted(table))} or an instance of {of.__name__}, got {part!r}")


def _built(kind: str, table: Mapping[str, Callable[..., Any]], spec: Any) -> Any:
    if isinstance(spec, str):
        spec = {"name": spec}
    if not isinstance(spec, Mapping):
        return spec
    options = {str(key): value for key, value in spec.items()}
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise InputError(f"{kind}: expected a name or a mapping with a 'name', got {dict(spec)!r}")
    factory = _imported(kind, name) if ":" in name else table[known(kind, name, table)]
    if not callable(factory):
        raise InputError(f"{kind}: expected something that can be called, got {name!r}, which is {factory!r}")
    for option in options:
        known(f"option of {kind} {name!r}", option, options_of(factory))
    if missing := [option for option in _needed(factory) if option not in options]:
        form = ", ".join(f'"{option}": …' for option in missing)
        came = ", ".join(options) or "nothing but the name"
        raise InputError(f'{kind} {name!r}: expected all that has no default, {{"name": "{name}", {form}}}, got {came}')
    try:
        return factory(**options)
    except TypeError as error:
        raise InputError(f"{kind} {name!r}: {error}") from error


def options_as(kind: str, form: type[Form], value: Any) -> Form:
    """`value` if it is an instance of `form`, else an instance made from `value` as a mapping of options.

    Raises:
        InputError: neither of these, an unknown option, or one that is missing.
    """
    if isinstance(value, form):
        return value
    if not isinstance(value, Mapping):
        names = ", ".join(options_of(form))
        raise InputError(f"{kind}: expected a mapping with any of {names}, or a {form.__name__}, got {shown(value)}")
    for option in value:
        known(f"option of {kind}", str(option), options_of(form))
    if missing := [option for option in _needed(form) if option not in value]:
        raise InputError(f"{kind}: expected the options {', '.join(missing)} as well, which have no default")
    return form(**{str(option): item for option, item in value.items()})


def name_of(spec: Any) -> str:
    """The name of a part in reports: that of the specification, else that of the function or of the object's class."""
    spec = spec["name"] if isinstance(spec, Mapping) else spec
    return spec if isinstance(spec, str) else getattr(spec, "__name__", type(spec).__name__)


def known(kind: str, name: str, names: Iterable[str]) -> str:
    """`name` if it is one of `names`, else an InputError that lists them and suggests the nearest."""
    names = sorted(names)
    if isinstance(name, str) and name in names:
        return name
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise InputError(f"unknown {kind} {name!r}{hint} Known: {', '.join(names) or 'none'}.")


def options_of(factory: Callable[..., Any]) -> list[str]:
    """The keyword names that `factory` accepts."""
    return [p.name for p in _parameters(factory) if p.kind != p.VAR_KEYWORD]


def _needed(factory: Callable[..., Any]) -> list[str]:
    """The keyword names that `factory` has no default for."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in _parameters(factory) if p.default is p.empty and p.kind in named]


def _parameters(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of `factory`; empty for a builtin without a signature."""
    try:
        return list(inspect.signature(factory).parameters.values())
    except ValueError:
        return []


def _imported(kind: str, path: str) -> Callable[..., Any]:
    if not _code.get():
        raise InputError(
            f"{kind}: {path!r} is code, which a file may name only if you trust it; pass --allow-code then "
            "(allow_code=True to drmime.lab.experiment.load)."
        )
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{kind}: expected an importable 'module:attribute', got {path!r} ({error})") from error
