"""Experiment configurations: methods, pairs, seeds and outputs, read from YAML.

All errors that can be detected without reading an image are raised here, before anything runs.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

from drmime import checks, settings
from drmime.errors import InputError, number, switch, whole
from drmime.lab.datasets import DATASETS, Pair, dataset
from drmime.lab.experiment.task import Outputs, Task
from drmime.lab.peers import PEERS
from drmime.lab.peers import settings as peer_settings
from drmime.registration import DEFAULTS, register
from drmime.registry import known, names_only, options_of

FROM_THE_PAIR = (
    *("fixed", "moving", "fixed_mask", "moving_mask", "affine_mask", "landmarks"),
    *("fixed_spacing", "moving_spacing", "channel_axis", "channel"),
)
OPTIONS = tuple(name for name in options_of(register) if name not in (*FROM_THE_PAIR, "observers", "seed", "errors"))
TIMEOUT = 600  # seconds, by default
ANCHOR_PREFIX = "x-"  # prefix of top-level keys that only hold YAML anchors
KEYS = {  # keys of a configuration and their meaning
    "dataset": "the pairs: a name of drmime.lab.datasets.DATASETS and its options",
    "methods": "name: keyword arguments of drmime.register; or 'peer' and the options of another program; and 'after', keyword "
    "arguments of drmime.register, whose result is its start",
    "seeds": "every method runs once with each",
    "outputs": "folder; pictures, the pixels of their long side, 0 for none; tensorboard, true or false",
    "report": "title; reference, the method that others are compared with; threshold of the median rTRE of an aligned pair",
    "timeout": "seconds after which a registration counts as failed",
}


@dataclass(frozen=True)
class Judging:
    """Settings of the report."""

    title: str = "Registration experiment"
    reference: str = ""  # the method that others are compared with; by default the first
    threshold: float = 0.01  # median rTRE below which a pair counts as aligned


@dataclass(frozen=True)
class Experiment:
    """A checked configuration."""

    pairs: Sequence[Pair]
    methods: Mapping[str, Mapping[str, Any]]
    seeds: Sequence[int]
    outputs: Outputs
    report: Judging
    timeout: float  # seconds
    code: bool = False  # whether "module:attribute" is imported as a part
    text: str = ""  # dataset, methods and seeds as YAML with overrides, variables by name; saved in the run's folder
    hidden: Mapping[str, str] = field(default_factory=dict)  # values of environment variables, not to be shown, and names

    def tasks(self, threads: int = 1) -> list[Task]:
        """One task for each pair, method and seed, ordered by pair, so that a process reads each pair once."""
        every = product(self.pairs, self.methods.items(), self.seeds)
        outputs = replace(self.outputs, folder=os.path.abspath(self.outputs.folder))  # workers may be elsewhere
        return [Task(name, block, pair, seed, outputs, threads, self.code) for pair, (name, block), seed in every]


def load(path: Path, overrides: Iterable[tuple[str, Any]] = (), allow_code: bool = False) -> Experiment:
    """Load an experiment from a YAML file and apply `overrides`: values by dotted keys, such as "methods.drmime.levels".

    `${NAME}` and `${NAME:-default}` in values are replaced by environment variables. With `allow_code`, "module:attribute" is
    imported as a part, here and in every process of the experiment; use it only for files that you would run as a program.

    Raises:
        InputError: a missing or invalid file, an unknown key, name or option, an invalid value, or code that is not allowed.
    """
    state = settings.document(path)
    for key, value in overrides:
        parts = key.split(".")
        if parts[0] == "methods" and len(parts) > 2:  # an override must not create a method from a mistyped name
            known(f"method in {key!r}:", parts[1], map(str, _mapping("methods", state.get("methods"))))
        settings.put(state, key, value)
    given = {str(name): value for name, value in state.items() if not str(name).startswith(ANCHOR_PREFIX)}
    hidden: dict[str, str] = {}
    state = {name: settings.expanded(value, hidden) for name, value in given.items()}
    for name in state:
        known(f"key in {path}:", name, KEYS)
    for name in ("dataset", "methods"):
        if name not in state:
            raise InputError(f"{path}: expected the key {name!r}: {KEYS[name]}")
    with names_only(not allow_code):
        return replace(_experiment(state), code=allow_code, text=_as_written(given), hidden=hidden)


def _as_written(given: Mapping[str, Any]) -> str:
    """Dataset, methods and seeds as YAML, as written, with variables by name."""
    return settings.text({"seeds": [0]} | {name: given[name] for name in ("dataset", "methods", "seeds") if name in given})


def _experiment(state: Mapping[str, Any]) -> Experiment:
    blocks = _mapping("methods", state["methods"])
    methods = {str(name): _method(str(name), block) for name, block in blocks.items()}
    if not methods:
        raise InputError("methods: expected at least one, such as 'drmime: {}'")
    report = Judging(**_block("report", state.get("report"), Judging))
    number("report.threshold", report.threshold, 0)
    reference = known("report.reference", report.reference or next(iter(methods)), methods)
    outputs = Outputs(**_block("outputs", state.get("outputs"), Outputs))
    whole("outputs.pictures", outputs.pictures, 0, 10_000)
    switch("outputs.tensorboard", outputs.tensorboard)
    if not isinstance(outputs.folder, str) or not outputs.folder.strip():
        raise InputError(f"outputs.folder: expected the name of a folder, got {outputs.folder!r}")
    seeds = state.get("seeds", [0])
    if not isinstance(seeds, list) or not seeds or len(set(map(str, seeds))) < len(seeds):
        raise InputError(f"seeds: expected a list of different whole numbers, such as [0, 1, 2], got {seeds!r}")
    return Experiment(
        pairs=dataset(state["dataset"]),
        methods=methods,
        seeds=[whole("seeds", seed, 0) for seed in seeds],
        outputs=outputs,
        report=replace(report, title=str(report.title), reference=reference),
        timeout=number("timeout", state.get("timeout", TIMEOUT), 0),
    )


def _method(name: str, block: Any) -> dict[str, Any]:
    """The options of a method, checked against `register` or the peer."""
    block = dict(_mapping(f"methods.{name}", {} if block is None else block))
    rest = {option: value for option, value in block.items() if option not in ("peer", "after")}
    if "peer" not in block:
        for option in rest:
            known(f"option of method {name!r}:", str(option), [*OPTIONS, "peer", "after"])
    try:
        peer_settings(block["peer"], rest) if "peer" in block else checks.options(DEFAULTS | rest)
    except InputError as error:
        raise InputError(f"method {name!r}: {error}") from error
    if "after" in block:
        after = {} if block["after"] is None else block["after"]
        if {"peer", "after"} & {*_mapping(f"methods.{name}.after", after)}:
            raise InputError(f"method {name!r}: after: expected keyword arguments of drmime.register, got {dict(after)}")
        if "start" in block:
            raise InputError(f"method {name!r}: expected a start or 'after', which gives one, got both")
        block["after"] = _method(f"{name}: after", after)
        if not all(stage.linear for stage in checks.stages(block["after"].get("transform", DEFAULTS["transform"]))):
            raise InputError(f"method {name!r}: after: expected a linear transform, got {block['after']['transform']!r}")
    return block


def _block(name: str, state: Any, form: type) -> dict[str, Any]:
    state = _mapping(name, {} if state is None else state)
    return {known(f"key in {name}:", str(key), [one.name for one in fields(form)]): value for key, value in state.items()}


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{name}: expected 'name: value' pairs, got {value!r}")
    return value


def schema() -> dict[str, Any]:
    """The JSON Schema of configurations, for completion and checks in editors."""

    def block(names: Iterable[str], defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
        properties: dict[str, Any] = {name: {"default": defaults[name]} if defaults else {} for name in names}
        return {"type": "object", "properties": properties, "additionalProperties": False}

    def named(table: Mapping[str, Any], key: str, left_out: str = "", more: Sequence[str] = ()) -> list[dict[str, Any]]:
        return [
            {
                "type": "object",
                "properties": {key: {"const": name}}
                | {option: {} for option in (*options_of(part), *more) if option != left_out},
                "required": [key],
                "additionalProperties": False,
            }
            for name, part in table.items()
        ]

    method = {"anyOf": [{"type": "null"}, block([*OPTIONS, "after"]), *named(PEERS, "peer", "problem", ["after"])]}
    details: dict[str, dict[str, Any]] = {
        "dataset": {"anyOf": [{"enum": list(DATASETS)}, *named(DATASETS, "name")]},
        "methods": {"type": "object", "additionalProperties": method, "minProperties": 1},
        "seeds": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True},
        "outputs": block(asdict(Outputs()), asdict(Outputs())),
        "report": block(asdict(Judging()), asdict(Judging())),
        "timeout": {"type": "number", "exclusiveMinimum": 0, "default": TIMEOUT},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A drmime experiment",
        "type": "object",
        "properties": {name: details[name] | {"description": text} for name, text in KEYS.items()},
        "patternProperties": {f"^{ANCHOR_PREFIX}": {}},
        "required": ["dataset", "methods"],
        "additionalProperties": False,
    }
