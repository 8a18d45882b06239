"""The parser, and the kinds of values that options take."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from drmime.errors import InputError
from drmime.parts import NAMES
from drmime.registry import known

UNSET = argparse.SUPPRESS  # an option that is not given is absent from the namespace, so the library's default applies


class Parser(argparse.ArgumentParser):
    commands: Mapping[str, argparse.ArgumentParser]

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"drmime: error: {message}. See {self.prog} --help\n")

    def refuse(self, command: str, rest: Sequence[str]) -> None:
        """Report arguments that the command does not know, with the nearest known option."""
        for word in rest:
            if word.startswith("-"):
                known(f"option of drmime {command}", word.partition("=")[0], self.commands[command]._option_string_actions)
        if rest:
            self.commands[command].error(f"unrecognized arguments: {' '.join(rest)}")


def command(commands: Any, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def names(kind: str) -> str:
    return ", ".join(NAMES[kind])


def value(text: str) -> Any:
    """YAML: a name, a number, a list or a mapping."""
    from drmime.settings import parse

    try:
        return parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(" ".join(str(error).split())) from error


def setting(text: str) -> tuple[str, Any]:
    key, equals, given = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return key, value(given)


def lengths(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between, such as 0.5,0.5, got {text!r}") from error


def sides(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected whole numbers with commas between, got {text!r}") from error


def axes(text: str) -> Any:
    """One axis, or several."""
    found = [axis(part.strip()) for part in text.split(",")]
    return found[0] if len(found) == 1 else found


def axis(text: str) -> int | str | None:
    if text in ("auto", "none"):
        return None if text == "none" else text
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected auto, none or a whole number, got {text!r}") from error
