"""What a configuration may say, and that everything else is told before anything runs."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import yaml

from drmime.errors import InputError
from drmime.lab import experiment
from drmime.lab.experiment.trial import run

TRAININGS = ("comir", "general")  # read by `drmime.lab.learning`
CONFIGS = [path for path in (Path(__file__).parents[1] / "configs").glob("*.yaml") if path.stem not in ("paper", *TRAININGS)]
DATASET = "dataset: {{name: pairs, file: {}/data/pairs.csv}}\n"
METHODS = {"ours": {"levels": 2}, "still": {"peer": "centre"}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tiny.config(tmp_path, tiny.pairs(tmp_path / "data", 2), METHODS, seeds=[0, 3])


def test_tasks_are_pairs_by_methods_by_seeds(path: Path) -> None:
    tasks = experiment.load(path).tasks()
    assert [(task.pair.name, task.method, task.seed) for task in tasks] == [
        (pair, method, seed) for pair in ("p0", "p1") for method in METHODS for seed in (0, 3)
    ]
    assert len({task.name for task in tasks}) == len(tasks)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"after": {"peer": "centre"}}, "after: expected keyword arguments of drmime.register"),
        ({"after": {"after": {}}}, "after: expected keyword arguments of drmime.register"),
        ({"after": {"transform": "affine+velocity"}}, "after: expected a linear transform"),
        ({"after": {"levls": 2}}, "did you mean 'levels'"),
        ({"after": 3}, "expected 'name: value' pairs"),
        ({"after": {}, "start": "mass"}, "expected a start or 'after'"),
    ],
    ids=str,
)
def test_what_comes_before_a_method_is_a_linear_registration(block: dict[str, object], words: str, path: Path) -> None:
    with pytest.raises(InputError, match=words):
        experiment.load(path, [("methods.ours", block)])


def test_a_task_travels_as_text(path: Path) -> None:
    for task in experiment.load(path).tasks(threads=2):
        assert experiment.Task.from_dict(json.loads(json.dumps(task.to_dict()))) == task


def test_the_name_of_a_task_depends_on_what_it_does(path: Path) -> None:
    name = experiment.load(path).tasks()[0].name
    assert experiment.load(path).tasks(threads=3)[0].name == name  # how fast it does it changes nothing
    assert experiment.load(path, [("outputs.folder", "elsewhere")]).tasks()[0].name == name
    assert experiment.load(path, [("methods.ours.levels", 3)]).tasks()[0].name != name


TRAPPED = [
    {"metric": "trap:Part"},
    {"metric": {"name": "trap:Part", "size": 1}},
    {"sampler": "trap:Part"},
    {"start": {"given": "trap:Part"}},
    {"start": "trap:Part"},
    {"start": ["moments", {"name": "trap:Part"}]},
    {"start": {"name": "search", "score": "trap:Part"}},
]


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there once the module `trap` was imported."""
    said = tmp_path / "it ran"
    (tmp_path / "trap.py").write_text(f"open({str(said)!r}, 'w').close()\n\n\nclass Part:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "trap", raising=False)
    return said


@pytest.mark.parametrize("block", TRAPPED, ids=str)
def test_a_file_runs_no_code(block: dict[str, object], path: Path, trap: Path) -> None:
    with pytest.raises(InputError, match="'trap:Part' is code"):
        experiment.load(path, [("methods.ours", block)])
    assert not trap.exists()


@pytest.mark.parametrize("dataset", ["trap:Part", {"name": "synthetic", "of": {"name": "trap:Part"}}], ids=str)
def test_a_dataset_in_a_file_runs_no_code(dataset: object, path: Path, trap: Path) -> None:
    with pytest.raises(InputError, match="'trap:Part' is code"):
        experiment.load(path, [("dataset", dataset)])
    assert not trap.exists()


def test_code_that_is_allowed_is_imported(path: Path, trap: Path) -> None:
    with pytest.raises(InputError, match="Similarity"):  # for it is no metric
        experiment.load(path, [("methods.ours.metric", "trap:Part")], allow_code=True)
    assert trap.exists()


def test_a_task_runs_no_code_unless_its_experiment_may(path: Path, trap: Path) -> None:
    task = replace(experiment.load(path).tasks()[0], block={"metric": "trap:Part"})
    assert "is code" in run([task])[0].error
    assert not trap.exists()
    assert "Similarity" in run([replace(task, code=True)])[0].error
    assert trap.exists()


def test_overrides_go_before_the_file(path: Path) -> None:
    found = experiment.load(
        path, [("methods.ours.levels", 5), ("seeds", [7]), ("methods.new", {"metric": "ncc"}), ("timeout", 9)]
    )
    assert found.methods["ours"] == {"levels": 5}
    assert found.methods["new"] == {"metric": "ncc"}
    assert (found.seeds, found.timeout) == ([7], 9)


def test_an_override_of_shared_text_changes_one_place(path: Path) -> None:
    path.write_text(
        f"x-all: &all {{levels: 3}}\n{DATASET.format(path.parent)}methods: {{one: *all, two: *all}}\n", encoding="utf-8"
    )
    found = experiment.load(path, [("methods.one.levels", 2)])
    assert found.methods == {"one": {"levels": 2}, "two": {"levels": 3}}


def test_a_method_without_options_is_drmime_as_it_comes(path: Path) -> None:
    path.write_text(DATASET.format(path.parent) + "methods:\n  drmime:\n", encoding="utf-8")
    found = experiment.load(path)
    assert found.methods == {"drmime": {}}
    assert found.report.reference == "drmime"


def test_environment_variables(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(
        "dataset: {name: pairs, file: '${PLACE}/pairs.csv'}\n"
        "methods: {drmime: {levels: '${LEVELS:-3}', start: '${START:-centre}'}}\n"
        "outputs: {folder: '${OUT:-runs}/x'}\nreport: {title: '${TITLE}'}\n",
        encoding="utf-8",
    )
    with pytest.raises(InputError, match="PLACE is not set"):
        experiment.load(path)
    monkeypatch.setenv("PLACE", str(path.parent / "data"))
    monkeypatch.setenv("LEVELS", "5")
    monkeypatch.setenv("START", "")  # which is as good as not set
    monkeypatch.setenv("TITLE", "{name: mass}")  # stays a word: only a file says what runs
    found = experiment.load(path)
    assert found.methods["drmime"] == {"levels": 5, "start": "centre"}
    assert (found.outputs.folder, found.report.title) == ("runs/x", "{name: mass}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("5", 5), ("-2", -2), ("1.50", 1.5), ("1e-3", 0.001), ("2.5E3", 2500.0), ("true", True), ("False", False)],
        *[(word, word) for word in ("007", "1_000", "1:30", "0x10", "no", "on", "~", "null", "2020-01-01", "", "x: 1", "[1")],
    ],
)
def test_a_variable_is_a_number_only_where_it_is_written_as_one(
    path: Path, text: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text(DATASET.format(path.parent) + "methods: {still: {peer: sift, ratio: '${RATIO}'}}\n", encoding="utf-8")
    monkeypatch.setenv("RATIO", text)
    found = experiment.load(path).methods["still"]["ratio"]
    assert (found, type(found)) == (value, type(value))


def test_generators_of_3d_images_are_known(path: Path) -> None:
    assert experiment.load(
        path, [("methods.ours.transform", {"name": "lie", "generators": ["translation_z", "rotation_xz"]})]
    ).tasks()


def test_an_option_goes_to_a_method_that_is_there(path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'ours'"):
        experiment.load(path, [("methods.urs.levels", 5)])
    new = [("methods.third", {"metric": "ncc"}), ("methods.third.levels", 2)]
    assert experiment.load(path, new).methods["third"] == {"metric": "ncc", "levels": 2}


def test_tasks_write_to_one_place_wherever_they_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    found = experiment.load(path, [("outputs.folder", "here")])
    assert found.outputs.folder == "here"
    assert found.tasks()[0].outputs.folder == str(path.parent / "here")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dataset": None}, "dataset"),
        ({"dataset": {"name": "pears"}}, "did you mean 'pairs'"),
        ({"dataset": {"name": "pairs", "fil": "x"}}, "did you mean 'file'"),
        ({"methods": {}}, "at least one"),
        ({"methods": ["mine"]}, "expected 'name: value' pairs"),
        ({"methods": {"a": {"level": 3}}}, "did you mean 'levels'"),
        ({"methods": {"a": {"metric": "mime"}}}, "method 'a': unknown metric 'mime'; did you mean 'mine'"),
        ({"methods": {"a": {"metric": {"name": "mine", "hiden": 3}}}}, "did you mean 'hidden'"),
        ({"methods": {"a": {"levels": "four"}}}, "method 'a': levels"),
        ({"methods": {"a": {"schedule": {"steps": 0}}}}, "method 'a': schedule steps"),
        ({"methods": {"a": {"transform": "afine"}}}, "method 'a': unknown transform 'afine'; did you mean 'affine'"),
        ({"methods": {"a": {"transform": {"name": "lie", "generators": ["scale", "rotatoin"]}}}}, "did you mean 'rotation'"),
        ({"methods": {"a": {"start": {"given": "center"}}}}, "did you mean 'centre'"),
        (
            {"methods": {"a": {"schedule": {"level_weights": [1, -1]}}}},
            "method 'a': schedule level_weights: expected as many numbers",
        ),
        ({"methods": {"a": {"schedule": {"level_weights": [[0, 0], [0, 1]]}}}}, "method 'a': schedule level_weights"),
        ({"methods": {"a": {"schedule": {"level_weights": "coarse"}}}}, "method 'a': schedule level_weights"),
        ({"methods": {"a": {"fixed": "x.png"}}}, "unknown option of method 'a'"),
        ({"methods": {"a": {"peer": "elastics"}}}, "did you mean 'elastix'"),
        ({"methods": {"a": {"peer": "centre", "levels": 3}}}, "method 'a': unknown option"),
        ({"methods": {"a": 3}}, "methods.a"),
        ({"seed": [1]}, "did you mean 'seeds'"),
        ({"seeds": 1}, "list of different whole numbers"),
        ({"seeds": []}, "list of different whole numbers"),
        ({"seeds": [1, 1]}, "list of different whole numbers"),
        ({"seeds": [-1]}, "seeds"),
        ({"outputs": {"folders": "x"}}, "did you mean 'folder'"),
        ({"outputs": {"folder": ""}}, "outputs.folder"),
        ({"outputs": {"folder": 3}}, "outputs.folder"),
        ({"outputs": {"folder": None}}, "outputs.folder"),
        ({"outputs": {"pictures": -1}}, "outputs.pictures"),
        ({"outputs": {"tensorboard": "yes please"}}, "outputs.tensorboard"),
        ({"report": {"reference": "ous"}}, "did you mean 'ours'"),
        ({"report": {"threshold": "small"}}, "report.threshold"),
        ({"timeout": 0}, "timeout"),
    ],
)
def test_what_cannot_be_is_told_before_anything_runs(path: Path, change: dict, words: str) -> None:
    state = yaml.safe_load(path.read_text(encoding="utf-8")) | change
    path.write_text(yaml.safe_dump(state), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        experiment.load(path)
    assert words in str(caught.value)


def test_a_dataset_that_is_not_there_is_told_before_anything_runs(path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv"):
        experiment.load(path, [("dataset.file", "none.csv")])


@pytest.mark.parametrize("missing", ["dataset", "methods"])
def test_what_must_be_there(path: Path, missing: str) -> None:
    state = yaml.safe_load(path.read_text(encoding="utf-8"))
    del state[missing]
    path.write_text(yaml.safe_dump(state), encoding="utf-8")
    with pytest.raises(InputError, match=f"expected the key '{missing}'"):
        experiment.load(path)


def test_the_example_is_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    Path("data").rename("images")
    path.write_text(experiment.example(), encoding="utf-8")
    found = experiment.load(path)
    assert found.methods["quick mattes"] == {"levels": 3, "schedule": {"steps": 60}, "metric": "mattes"}
    explained = set(yaml.safe_load(experiment.example())) - {"x-quick"}
    assert explained == set(experiment.schema()["properties"])


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_checked_in_says_what_it_may(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose images are elsewhere are pointed at a table of two pairs with the columns that they filter by."""
    table = tiny.pairs(tmp_path, 2)
    columns, *lines = table.read_text().splitlines()
    more = ["dataset,ndim,already_aligned,kind", "stroke3d,2,0,multi", "spm3d,2,1,multi", "openms3d,3,1,mono"]
    flat = ("birl_rat_kidney", "cima_lesion3", "superfusion")
    more += [f"{name},2,0,multi" for name in flat] + [f"{name},3,0,multi" for name in ("prostate3d", "jlf3d", "sct3d")]
    both = [f"{line},{rest}" for line, rest in zip([columns, *lines, *[lines[1]] * (len(more) - 3)], more, strict=True)]
    table.write_text("\n".join(both).replace("even", "histology").replace("odd", "retina"))
    monkeypatch.setenv("DRMIME_DATA", str(tmp_path))
    own = [("dataset", {"name": "pairs", "file": str(table), "limit": 1})] if config.stem in ("fire", "anhir", "folder") else []
    found = experiment.load(config, own)
    assert found.tasks()
    assert found.outputs.folder == f"runs/{config.stem}"


def test_the_schema_takes_what_loads_and_refuses_what_does_not(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    check = jsonschema.Draft202012Validator(experiment.schema())
    good = [path.read_text(encoding="utf-8"), experiment.example(), *(path.read_text() for path in CONFIGS)]
    for text in good:
        check.validate(yaml.safe_load(text))
    state = yaml.safe_load(path.read_text(encoding="utf-8"))
    for wrong in (
        {"seed": [0]},
        {"methods": {"a": {"level": 3}}},
        {"dataset": {"name": "pears"}},
        {"outputs": {"folders": "x"}},
    ):
        assert not check.is_valid(state | wrong)
