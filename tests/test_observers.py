"""What observers keep is what happened: curves are read back from the event files and compared with the result."""

import functools
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

import drmime
from drmime import InputError
from drmime.observers import History, Progress, TensorBoard, curve_name, flat

register = functools.partial(drmime.register, start=None)

STEPS = 41
COEFFICIENTS = ("translation_x", "translation_y", "rotation_xy", "scale", "stretch_x", "shear_xy")


def blobs(*shape: int, shift: float = 0.0) -> np.ndarray:
    """A few smooth blobs, moved by `shift` pixels along every axis."""
    places = np.indices(shape) - shift
    image = np.zeros(shape)
    for centre in np.random.default_rng(3).random((8, len(shape))):
        distance = sum((place - c * n) ** 2 for place, c, n in zip(places, centre, shape, strict=True))
        image += np.exp(-distance / (2 * (min(shape) / 10) ** 2))
    return image


def run(folder: Path, **options: Any) -> Any:
    fixed, moving = options.pop("images", (blobs(64, 80), 1 - blobs(64, 80, shift=2)))
    board = TensorBoard(folder, images_every=20, scalars_every=10)
    options = {"metric": "mattes", "levels": 2, "schedule": {"steps": STEPS, "tolerance": 1e-9}, "device": "cpu"} | options
    return register(fixed, moving, observers=[board], **options)


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def text(read: EventAccumulator, tag: str) -> str:
    return read.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0].decode()


def hparams(read: EventAccumulator) -> dict[str, Any]:
    data = HParamsPluginData.FromString(read.PluginTagToContent("hparams")["_hparams_/session_start_info"])
    values = data.session_start_info.hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}


def test_history_is_the_history_of_the_result() -> None:
    history = History()
    assert history.values == []
    for _ in range(2):  # an observer can watch again
        result = register(
            blobs(64, 64), blobs(64, 64, shift=1), metric="ncc", schedule={"steps": 12}, device="cpu", observers=[history]
        )
        assert history.values[0].shape == (result.history.shape[1], 1)
        assert np.array_equal(np.array(history.values)[:, :, 0], result.history)


def test_progress_is_quiet_when_stderr_is_not_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    register(blobs(32, 32), blobs(32, 32), metric="ncc", schedule={"steps": 12}, device="cpu", observers=[Progress()])
    assert capfd.readouterr() == ("", "")


def test_progress_shows_steps_and_similarity_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    register(
        blobs(32, 32), blobs(32, 32), metric="ncc", schedule={"steps": 12}, device="cpu", start="auto", observers=["progress"]
    )
    shown = terminal.getvalue()
    assert "a quick search" in shown
    assert "/12" in shown
    assert "step" in shown


def test_tensorboard_writes_nothing_before_the_run(tmp_path: Path) -> None:
    TensorBoard(tmp_path / "logs")
    with pytest.raises(InputError, match="unknown transform"):
        run(tmp_path / "logs", transform="afine")
    assert not (tmp_path / "logs").exists()


def test_tensorboard_has_every_curve(tmp_path: Path) -> None:
    result = run(tmp_path)
    read = events(tmp_path)
    curves = ["MI/level0", "MI/level1", "MI/total", "drift/pixels", *(f"coefficients/{name}" for name in COEFFICIENTS)]
    finals = ["final/similarity", "final/overlap", "final/steps"]
    assert sorted(read.Tags()["scalars"]) == sorted(curves + finals)
    for tag in curves:
        assert [event.step for event in read.Scalars(tag)] == list(range(0, len(result.history), 10))
    for level in range(2):
        values = [event.value for event in read.Scalars(f"MI/level{level}")]
        assert np.allclose(values, result.history[::10, level])
    total = [event.value for event in read.Scalars("MI/total")]
    assert np.allclose(total, result.history[::10].mean(1))
    drift = [event.value for event in read.Scalars("drift/pixels")]
    assert drift[0] == 0
    assert drift[-1] > 0.5
    assert read.Scalars("final/similarity")[0].value == pytest.approx(result.similarity, rel=1e-5)
    assert read.Scalars("final/steps")[0].value == len(result.history)


def test_tensorboard_weighs_the_total_as_the_loss_does(tmp_path: Path) -> None:
    result = run(tmp_path, schedule={"level_weights": [3, 1], "steps": 11, "tolerance": 1e-9})
    total = [event.value for event in events(tmp_path).Scalars("MI/total")]
    assert np.allclose(total, result.history[::10] @ [0.75, 0.25])


def test_tensorboard_has_settings_reason_and_hyperparameters(tmp_path: Path) -> None:
    result = run(tmp_path, metric={"name": "mattes", "bins": 24}, fixed_spacing=(1, 1))
    read = events(tmp_path)
    assert "| metric/bins | 24 |" in text(read, "settings")
    assert text(read, "stop") == result.stop.value
    values = hparams(read)
    assert values["metric/name"] == "mattes"
    assert values["levels"] == 2
    assert values["fixed_spacing"] == "[1, 1]"
    assert values["schedule/level_weights"] == "None"
    assert len(list(tmp_path.iterdir())) == 1  # one run, not a second one for the hyperparameters


def test_tensorboard_has_pictures(tmp_path: Path) -> None:
    image = blobs(300, 600)
    run(tmp_path, images=(image, image), metric="ncc", start={"given": np.eye(3), "refine": False}, schedule={"steps": 21})
    pictures = events(tmp_path).Images("overlay")
    assert [(picture.step, picture.width, picture.height) for picture in pictures] == [
        (0, 256, 128),
        (20, 256, 128),
        (21, 256, 128),
    ]


def test_tensorboard_shows_the_middle_of_a_volume(tmp_path: Path) -> None:
    run(
        tmp_path,
        images=(blobs(16, 24, 32), blobs(16, 24, 32, shift=1)),
        schedule={"steps": 3},
        transform="rigid",
        fixed_spacing=(2, 1.5, 1),
    )
    (first, *_) = events(tmp_path).Images("overlay")
    assert (first.width, first.height) == (32, 36)
    assert "coefficients/rotation_yz" in events(tmp_path).Tags()["scalars"]


def test_tensorboard_tells_the_pairs_of_a_batch_apart(tmp_path: Path) -> None:
    fixed = [blobs(64, 64), blobs(64, 64)]
    moving = [blobs(64, 64, shift=1), blobs(64, 64, shift=-2)]
    results = run(tmp_path, images=(fixed, moving), metric="nmi", schedule={"steps": 11})
    read = events(tmp_path)
    for pair, result in enumerate(results):
        values = [event.value for event in read.Scalars(f"pair{pair}/NMI/level0")]
        assert np.allclose(values, result.history[::10, 0])
        assert text(read, f"pair{pair}/stop") == result.stop.value
        assert len(read.Images(f"pair{pair}/overlay")) == 2
    assert all(tag.startswith("pair") for tag in read.Tags()["scalars"])


def test_each_batch_of_a_list_is_a_run_with_the_numbers_of_its_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(64, 64), (48, 64), (64, 64)]
    pairs = [blobs(*size) for size in sizes], [blobs(*size, shift=1) for size in sizes]
    results = run(tmp_path, images=pairs, schedule={"steps": 11})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch0", "batch1"]
    for folder, numbers in {"batch0": (0, 2), "batch1": (1,)}.items():
        read = events(tmp_path / folder)
        assert {tag.partition("/")[0] for tag in read.Tags()["scalars"]} == {f"pair{number}" for number in numbers}
        for number in numbers:
            values = [event.value for event in read.Scalars(f"pair{number}/MI/level0")]
            assert np.allclose(values, results[number].history[::10, 0])
    run(tmp_path, schedule={"steps": 11})  # one pair in the same folder replaces the list
    assert not list(tmp_path.glob("batch*/*"))
    assert "MI/level0" in events(tmp_path).Tags()["scalars"]
    run(tmp_path, images=pairs, schedule={"steps": 11})
    assert not list(tmp_path.glob("events*"))


def test_progress_tells_the_pairs_of_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(Progress, "_open", lambda self, **options: opened.append(options.get("desc")))
    progress, history = Progress(), History()
    progress.bar = SimpleNamespace(disable=True, update=lambda: None, close=lambda: None)
    monkeypatch.setattr(Progress, "end", lambda self, outcome: None)
    pairs = [blobs(32, 32), blobs(32, 40), blobs(32, 32)]
    results = register(pairs, pairs, metric="ncc", schedule={"steps": 12}, observers=[progress, history])
    assert opened == ["pairs 1 to 2 of 3", "pairs 3 to 3 of 3"]
    assert np.array_equal(np.array(history.values)[:, :, 0], results[1].history)  # of the last batch


def test_tensorboard_lets_a_second_run_take_the_place_of_the_first(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "notes.txt").touch()
    result = run(tmp_path, schedule={"steps": 21})
    assert len(list(tmp_path.iterdir())) == 2
    assert [event.step for event in events(tmp_path).Scalars("MI/level0")] == list(range(0, len(result.history), 10))


def test_tensorboard_refuses_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        run(tmp_path / "logs")


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("mine", "MI"),
        ({"name": "jhmi", "bins": 8}, "MI"),
        ("MINE", "MI"),
        ("ncc", "NCC"),
        ("MSE", "MSE"),
        ("own.module:Likeness", "Likeness"),
    ],
)
def test_curves_are_named_after_what_they_measure(metric: Any, name: str) -> None:
    assert curve_name(metric) == name


def test_flat_settings_are_simple_values() -> None:
    nested = {"a": None, "b": {"name": "x", "c": {"d": 1}}, "e": [1, 2], "f": True, "g": 0.5}
    assert flat(nested) == {"a": "None", "b/name": "x", "b/c/d": 1, "e": "[1, 2]", "f": True, "g": 0.5}
