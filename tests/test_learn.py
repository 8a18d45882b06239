"""Encoders, their loss, patches, files, and their use by `register`."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
import yaml
from scipy import ndimage
from tolerances import TOLERANCE

from drmime import Grid, InputError, Registration, as_image, register
from drmime.cli import main
from drmime.image.image import Image
from drmime.image.io import write_image
from drmime.lab import learning
from drmime.learn.contrastive import CRITICS, info_nce, retrieval
from drmime.learn.encoder import Encoder, encode
from drmime.learn.patches import Overlaid, draw, quarter_turns
from drmime.learn.synthesise import synthesised
from drmime.learn.train import Trainer, Training
from drmime.learn.use import Represented
from drmime.learn.weights import Representation
from drmime.transform.linear import MatrixTransform
from drmime.verdict.judge import Status

pytest.importorskip("safetensors", reason="holds the weights: pip install 'drmime[learn]'")

SHAPES = {2: (40, 52), 3: (20, 24, 28)}
SMALL = Training(steps=6, batch=4, patch=16, shifts=2, width=4, depth=2, every=3, validation=8, patience=2)


def scenes(ndim: int, count: int = 2, seed: int = 0) -> list[Overlaid]:
    """Two modalities of textures: one is a function of the other that is not monotone."""
    grid = Grid.regular(SHAPES[ndim])
    found = []
    for number in range(count):
        noise = np.random.default_rng(seed + number).standard_normal(grid.shape)
        image = as_image(ndimage.gaussian_filter(noise, 1.5)).normalised()
        found.append(Overlaid([image, replace(image, data=torch.sin(3 * image.data))], ("a", "b"), str(number)))
    return found


def trainer(ndim: int = 2, options: Training = SMALL) -> Trainer:
    return Trainer(scenes(ndim), scenes(ndim, 1, seed=9), options, {"file": "0"})


def model(ndim: int = 2, **options: Any) -> Representation:
    return trainer(ndim, replace(SMALL, **options)).result()


# ---- encoder


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("depth", [0, 2])
def test_tiles_do_not_show(depth: int, dense: bool, ndim: int) -> None:
    torch.manual_seed(0)
    encoder = Encoder(ndim, 2, 3, width=4, depth=depth, dense=dense)
    pixels = torch.rand(1, 2, *SHAPES[ndim])
    whole = encode(encoder, pixels, tile=10_000)
    assert whole.shape == (1, 3, *SHAPES[ndim])
    assert torch.allclose(encode(encoder, pixels, tile=8), whole, atol=1e-4)


def test_the_margin_is_all_that_a_pixel_depends_on() -> None:
    torch.manual_seed(0)
    encoder = Encoder(2, 1, 1, width=4, depth=2)
    pixels = torch.rand(1, 1, 128, 128, requires_grad=True)
    encoder(pixels)[0, 0, 64, 64].backward()
    rows = pixels.grad.abs().sum((0, 1, 3)).nonzero()
    assert 64 - encoder.margin <= rows.min()
    assert rows.max() <= 64 + encoder.margin


def test_options_of_the_encoder() -> None:
    for options in ({"ndim": 4}, {"inputs": 0}, {"depth": -1}, {"width": 1.5}, {"dense": "yes"}):
        with pytest.raises(InputError):
            Encoder(**{"ndim": 2, "inputs": 1, **options})
    for options in (
        {"patch": 20},
        {"critic": "l1"},
        {"critic": "mean"},
        {"shifts": -1},
        {"shifts": 3},
        {"rate": 0.0},
        {"batch": 1},
        {"turns": 1},
    ):
        with pytest.raises(InputError):
            Training(**options)


# ---- loss


@pytest.mark.parametrize("shifts", [0, 2])
@pytest.mark.parametrize("name", CRITICS)
def test_critics_are_what_they_say(name: str, shifts: int, ndim: int) -> None:
    if name == "l1" and shifts:
        pytest.skip("compares whole patches")
    side = 4
    first, second = (torch.rand(count, 3, *[side + more] * ndim) for count, more in ((2, 0), (4, 2 * shifts)))
    found = CRITICS[name](first, second)
    assert found.shape == (2, 4, *[2 * shifts + 1] * ndim)
    centred = [patch - patch.flatten(1).mean(1).view(-1, *[1] * ndim) for patch in first]
    for (one, patch), (other, image), corner in itertools.product(
        enumerate(first), enumerate(second), itertools.product(range(2 * shifts + 1), repeat=ndim)
    ):
        window = image[(..., *[slice(start, start + side) for start in corner])]
        expected = {
            "mse": -((patch - window) ** 2).mean(),
            "l1": -(patch - window).abs().mean(),
            "cosine": torch.cosine_similarity(patch.flatten(), window.flatten(), 0),
            "correlation": torch.cosine_similarity(
                centred[one].flatten(), (window - window.flatten(1).mean(1).view(-1, *[1] * ndim)).flatten(), 0
            ),
        }[name]
        assert torch.allclose(found[(one, other, *corner)], expected, atol=1e-4)


@pytest.mark.parametrize("name", ["correlation", "cosine"])
def test_a_constant_part_beside_a_strong_one_is_like_nothing(name: str) -> None:
    second = torch.zeros(1, 1, 96, 96)
    second[..., 40:, 40:] = 10 * torch.randn(56, 56)
    second[..., :40, :] = 30
    found = CRITICS[name](torch.randn(2, 1, 32, 32), second)
    assert float(found.abs().max()) < 1.001


def test_the_loss_is_that_of_its_definition() -> None:
    first, second = torch.rand(5, 1, 4, 4), torch.rand(5, 1, 4, 4)
    alike = torch.exp(CRITICS["mse"](first, second)[..., 0, 0] / 0.1)
    expected = -(torch.log(alike.diag() / alike.sum(1)) + torch.log(alike.diag() / alike.sum(0))).mean() / 2
    assert float(info_nce(first, second, 0.1, CRITICS["mse"])) == pytest.approx(float(expected), rel=1e-4)


def test_a_shifted_patch_costs_more(ndim: int) -> None:
    patches = torch.rand(4, 1, *[12] * ndim)
    losses = [float(info_nce(patches, patches.roll(shift, -1), 0.1, CRITICS["correlation"], 3)) for shift in (0, 1, 3)]
    assert losses[0] < losses[1] < losses[2]


def test_retrieval_counts_places_that_are_found() -> None:
    patches = torch.eye(6).view(6, 1, 2, 3)
    assert retrieval(patches, patches, CRITICS["mse"]) == 1
    assert retrieval(patches, patches.roll(1, 0), CRITICS["mse"]) == 0


# ---- patches


def test_both_modalities_are_cut_at_the_same_places(ndim: int) -> None:
    same = [Overlaid([one.images[0], one.images[0]], ("a", "a")) for one in scenes(ndim)]
    first, second = draw(same, 5, 8, torch.Generator().manual_seed(0), plain=True)
    assert first.shape == (5, 1, *[8] * ndim)
    assert torch.equal(first, second)
    first, second = draw(same, 5, 8, torch.Generator().manual_seed(0))
    assert not torch.equal(first, second)  # intensities change independently
    correlations = [
        float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]) for a, b in zip(first, second, strict=True)
    ]
    assert np.median(correlations) > 0.7


def test_patches_avoid_what_is_masked() -> None:
    image = scenes(2)[0].images[0]
    mask = torch.zeros_like(image.data)
    mask[..., :20] = 1
    (cut, _) = draw(
        [Overlaid([replace(image, data=mask), replace(image, mask=mask)], "ab")], 20, 8, torch.Generator().manual_seed(0), True
    )
    assert float(cut.mean()) > 0.9


def test_quarter_turns_are_undone(ndim: int) -> None:
    patch = torch.rand(1, 1, *[6] * ndim)
    for count, plane in quarter_turns(ndim):
        assert torch.equal(torch.rot90(torch.rot90(patch, count, plane), -count, plane), patch)


# ---- training


def test_training_makes_places_found() -> None:
    options = replace(SMALL, steps=80, batch=8, every=40, validation=16, rate=3e-3, width=8)
    made = trainer(options=options)
    before = made.validated(0.0).retrieval
    result = made.run(None, lambda found: None, lambda: None)
    assert made.best > before + 0.5
    assert result.training["steps_taken"] == 80
    assert result.training["retrieval"] == made.best


def test_a_training_that_is_stopped_goes_on_with_the_same_weights(tmp_path: Path, ndim: int) -> None:
    whole = trainer(ndim)
    expected = whole.run(None, lambda found: None, lambda: None)
    first = trainer(ndim)

    def stop(found: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(tmp_path / "c.safetensors", stop, lambda: None)
    second = trainer(ndim)
    found = second.run(tmp_path / "c.safetensors", lambda found: None, lambda: None)
    assert second.step == whole.step
    for name, encoder in expected.encoders.items():
        for key, value in encoder.state_dict().items():
            assert torch.equal(value, found.encoders[name].state_dict()[key])
    other = trainer(ndim, replace(SMALL, seed=1))
    with pytest.raises(InputError, match="other settings"):
        other.run(tmp_path / "c.safetensors", lambda found: None, lambda: None)


def test_the_encoders_turn_with_the_image_the_same_seed_gives_the_same() -> None:
    one, other = (trainer().run(None, lambda found: None, lambda: None) for _ in range(2))
    for name in one.encoders:
        assert all(
            torch.equal(a, b) for a, b in zip(one.encoders[name].parameters(), other.encoders[name].parameters(), strict=True)
        )


def test_training_stops_when_nothing_improves() -> None:
    made = trainer(options=replace(SMALL, steps=1000, rate=1e-12))
    made.run(None, lambda found: None, lambda: None)
    assert made.step <= SMALL.every * (SMALL.patience + 1)


# ---- files


def test_what_is_saved_comes_back(tmp_path: Path, ndim: int) -> None:
    made = model(ndim, outputs=2, dense=True)
    made.save(tmp_path / "m.safetensors")
    found = Representation.load(tmp_path / "m.safetensors")
    image = scenes(ndim)[0].images[0]
    assert found.modalities == ["a", "b"]
    assert found.header() == made.header()
    assert torch.equal(found(image, "b").data, made(image, "b").data)
    assert found(image, "b").data.shape[1] == 2


def test_a_file_that_is_no_model_is_one_clear_error(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path, bad = tmp_path / "m.safetensors", tmp_path / "bad.safetensors"
    made = model()
    made.save(path)
    whole, tensors, header = path.read_bytes(), load_file(path), made.header()
    named = next(iter(tensors))
    for content in (b"", whole[:100], whole[:-10], b"\x80\x04N.", b"{}" * 50):
        bad.write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.safetensors"):
            Representation.load(bad)
    changes = {
        "version": ({"format": "drmime representation 99"}, tensors),
        "dimension": ({"ndim": 3}, tensors),
        "channels": ({"modalities": {"a": 2, "b": 1}}, tensors),
        "width": ({"encoder": {"width": 9, "depth": 2, "dense": False}}, tensors),
        "huge": ({"encoder": {"width": 10**9, "depth": 2, "dense": False}}, tensors),
        "missing": ({}, {key: value for key, value in tensors.items() if key != named}),
        "more": ({}, tensors | {"other": torch.zeros(1)}),
        "not finite": ({}, tensors | {named: tensors[named] * torch.nan}),
        "kind": ({"ndim": "two"}, tensors),
        "none": ({"modalities": {}}, {}),
    }
    for change, weights in changes.values():
        save_file(weights or {"x": torch.zeros(1)}, bad, {"drmime": json.dumps(header | change)})
        with pytest.raises(InputError, match=r"bad\.safetensors"):
            Representation.load(bad)
    for metadata in (None, {"drmime": "{"}, {"other": "{}"}):
        save_file(tensors, bad, metadata)
        with pytest.raises(InputError, match=r"bad\.safetensors"):
            Representation.load(bad)
    with pytest.raises(InputError, match="does not exist"):
        Representation.load(tmp_path / "nowhere.safetensors")


# ---- use


def test_register_compares_representations(tmp_path: Path) -> None:
    model().save(tmp_path / "m.safetensors")
    pixels = scenes(2)[0].images[0].data[0, 0].numpy()
    quick = {"start": None, "metric": "mse", "schedule": {"steps": 3}, "device": "cpu"}
    plain = register(pixels, pixels, **quick)
    for use in ("all", "metric", "search"):
        spec = {"name": str(tmp_path / "m.safetensors"), "fixed": "a", "moving": "b", "use": use}
        found = register(pixels, pixels, representation=spec, **quick)
        assert (found.similarity == plain.similarity) == (use == "search")
        found.save(tmp_path / "r.json")
        assert Registration.load(tmp_path / "r.json").settings["representation"]["use"] == use
    both = register(pixels, pixels, representation={"name": model(), "fixed": "a", "moving": "a"}, **quick)
    assert both.similarity == pytest.approx(0, abs=1e-4)  # one encoder, one image
    batch = register([pixels, pixels], [pixels, pixels], representation=tmp_path / "m.safetensors", **quick)
    assert batch[0].similarity == batch[1].similarity


@pytest.mark.parametrize("metric", ["ncc", "mse", "alpha_amd"])
def test_encoders_see_each_image_in_its_own_range_whatever_the_metric(metric: str) -> None:
    class Seen(Represented):
        def __call__(self, fixed: Image, moving: Image) -> tuple[Image, Image]:
            seen.append(float(moving.data.amax()))
            return super().__call__(fixed, moving)

    seen: list[float] = []
    pixels = scenes(2)[0].images[0].data[0, 0].numpy()
    register(pixels, 0.5 * pixels, representation=Seen(model(), "a", "a"), metric=metric, start=None, schedule={"steps": 1})
    assert seen == [pytest.approx(1)]


def test_a_wrong_use_is_one_clear_error(tmp_path: Path) -> None:
    made = model()
    pixels = np.random.default_rng(0).random((40, 44, 3))
    coloured = Representation({"a": Encoder(2, 2, width=4, depth=1)})
    for spec, words in [
        ("nowhere.safetensors", "does not exist"),
        (3, "representation"),
        ({"fixed": "a"}, "representation"),
        ({"name": made, "use": "al"}, "did you mean 'all'"),
        ({"name": made, "fixed": "ct"}, "unknown modality 'ct'"),
        ({"name": made, "fxed": "a"}, "did you mean 'fixed'"),
        (coloured, "2 channels for modality 'a', got 2 dimensions and 3"),
    ]:
        with pytest.raises(InputError, match=words):
            register(pixels, pixels, representation=spec, start=None)
    assert Represented.of(None) is None


def test_an_encoder_of_one_channel_sees_the_mean_of_all() -> None:
    image = scenes(2)[0].images[0]
    several = Image(torch.cat([image.data - 0.2, image.data + 0.2], 1), image.grid)
    assert torch.allclose(model()(several, "a").data, model()(image, "a").data, rtol=0, atol=TOLERANCE[torch.float32])


def test_what_is_masked_has_no_influence() -> None:
    image = scenes(2)[0].images[0]
    mask = torch.ones_like(image.data)
    mask[..., 30:] = 0
    changed = torch.where(mask > 0, image.data, 7)
    first, second = (model()(Image(data, image.grid, mask), "a").data for data in (image.data, changed))
    assert torch.equal(first, second)


# ---- command line


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A training on generated pairs."""
    rows = ["pair,fixed,moving,already_aligned"]
    for number, one in enumerate(scenes(2, 3)):
        for side, image in zip("ab", one.images, strict=True):
            write_image(tmp_path / f"{side}{number}.tif", image.data[0, 0].numpy())
        rows.append(f"p{number},a{number}.tif,b{number}.tif,1")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    table = {"name": "pairs", "file": str(tmp_path / "pairs.csv")}
    names = ("steps", "batch", "patch", "shifts", "width", "depth", "every", "validation")
    training = {name: getattr(SMALL, name) for name in names}
    entry = {"dataset": table | {"where": {"pair": ["p0", "p1"]}}, "validation": table | {"where": {"pair": "p2"}}}
    state = {"pairs": [entry | {"modalities": ["smooth", "bent"]}], "training": training, "folder": str(tmp_path / "out")}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(state))
    return tmp_path / "c.yaml"


def test_train_and_represent(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = config.parent / "out"
    assert main(["train", str(config)]) == 0
    assert "6 steps" in capsys.readouterr().out
    model_file = folder / "model.safetensors"
    made = Representation.load(model_file)
    assert made.modalities == ["smooth", "bent"]
    assert sorted(made.data) == ["a0.tif", "a1.tif", "a2.tif", "b0.tif", "b1.tif", "b2.tif", "plan"]
    assert list((folder / "tensorboard").iterdir())
    image = config.parent / "b0.tif"
    assert main(["represent", str(model_file), str(image), "--modality", "bent", "--out", str(folder / "r.tif")]) == 0
    expected = made(as_image(image).normalised(), "bent").data[0, 0].numpy()
    assert np.array_equal(as_image(folder / "r.tif").data[0, 0].numpy(), expected)
    assert main(["represent", str(model_file), str(image), "--out", str(folder / "r.png")]) == 0
    words = ["--representation", str(model_file), "--out", str(folder / "reg"), "--start", "none", "--set", "schedule.steps=2"]
    assert main(["register", str(config.parent / "a0.tif"), str(image), *words, "--device", "cpu"]) in (0, 1)


def test_the_configuration_checked_in_is_one(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRMIME_DATA", str(data))
    plan = learning.load(Path(__file__).parents[1] / "configs" / "comir.yaml")
    (train,), (held,) = plan.sources, plan.validation
    assert len(train.pairs) == 7
    people = [{pair.name.partition("_")[2][:2] for pair in source.pairs} for source in (train, held)]
    assert not people[0] & people[1]
    general = learning.load(Path(__file__).parents[1] / "configs" / "general.yaml")
    assert general.sources[0].modalities == ("image", "image")


def test_mistakes_of_a_training(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for key, value, words in [
        ("training.stpes", "3", "did you mean 'steps'"),
        ("parts", "[]", "did you mean 'pairs'"),
        ("pairs", "[]", "a list of what to train with"),
        ("training.patch", "17", "multiple of"),
    ]:
        assert main(["train", str(config), "--set", f"{key}={value}"]) == 2
        assert words in capsys.readouterr().err
    assert not (config.parent / "out").exists()
    plan = learning.load(config)
    with pytest.raises(InputError, match=r"truth|overlay"):
        learning.overlaid(replace(plan.sources[0].pairs[0], truth=""))
    state = yaml.safe_load(config.read_text(encoding="utf-8"))
    entry = state["pairs"][0]
    for change, words in [
        ({"modalities": ["a"]}, "expected two names"),
        ({"datset": {}}, "did you mean 'dataset'"),
        ({"validation": entry["dataset"]}, "other images than those to train with"),
        (
            {"modalities": ["a", "a"], **{key: {"name": "synthesised"} for key in ("dataset", "validation")}},
            "other images than those to train with",
        ),
        ({"dataset": {"name": "synthesised", "count": "x"}}, "count: expected a whole number"),
        ({"dataset": {"name": "synthesised", "sid": 3}}, "did you mean 'side'"),
        ({"dataset": {"name": "synthesised"}}, "one name twice"),
    ]:
        config.write_text(yaml.safe_dump(state | {"pairs": [entry | change]}), encoding="utf-8")
        assert main(["train", str(config)]) == 2
        assert words in capsys.readouterr().err


def test_three_modalities_are_trained_together(config: Path) -> None:
    state = yaml.safe_load(config.read_text(encoding="utf-8"))
    first = state["pairs"][0]
    other = first | {"modalities": ["smooth", "third"]}
    config.write_text(yaml.safe_dump(state | {"pairs": [first, other]}), encoding="utf-8")
    assert main(["train", str(config)]) == 0
    made = Representation.load(config.parent / "out" / "model.safetensors")
    assert made.modalities == ["smooth", "bent", "third"]
    weights = [next(iter(made.encoders[name].parameters())) for name in made.modalities]
    assert len({float(one.sum()) for one in weights}) == 3
    fresh = Trainer(*([*scenes(2), replace(scenes(2)[0], modalities=("a", "c"))] for _ in range(2)), SMALL, {})
    before = {name: next(iter(one.parameters())).detach().clone() for name, one in fresh.encoders.items()}
    fresh.run(None, lambda found: None, lambda: None)
    assert all(not torch.equal(before[name], next(iter(one.parameters()))) for name, one in fresh.encoders.items())


def test_pairs_are_trained_with_that_a_registration_aligned(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pair under a known shift, with registrations that say so: one is sure, the other is not and is left out."""
    folder, state = config.parent, yaml.safe_load(config.read_text(encoding="utf-8"))
    shifted = np.roll(iio.imread(folder / "b0.tif"), (2, 3), (0, 1))
    iio.imwrite(folder / "s0.tif", shifted)
    matrix = np.array([[1.0, 0, 3], [0, 1, 2], [0, 0, 1]])
    found = register(folder / "a0.tif", folder / "s0.tif", start=None, transform="translation", schedule={"steps": 1})
    for number, status in enumerate((Status.ALIGNED, Status.DOUBTFUL)):
        verdict = replace(found.verdict, status=status)
        replace(found, transform=MatrixTransform(torch.as_tensor(matrix)), verdict=verdict).save(folder / f"r{number}.json")
    rows = ["pair,fixed,moving,fixed_to_moving", "sure,a0.tif,s0.tif,r0.json", "unsure,a1.tif,b1.tif,r1.json"]
    (folder / "registered.csv").write_text("\n".join(rows))
    state["pairs"][0]["dataset"] = {"name": "pairs", "file": str(folder / "registered.csv")}
    config.write_text(yaml.safe_dump(state), encoding="utf-8")
    plan = learning.load(config)
    (scene,) = plan.sources[0].scenes()
    expected = as_image(folder / "b0.tif").normalised().data[..., :-3, :-3]
    inside = scene.images[1].data[..., :-3, :-3]
    assert torch.allclose(inside, expected, atol=1e-3)
    assert main(["train", str(config)]) == 0
    assert "left out, since their registration is not sure: unsure" in capsys.readouterr().out


def test_scenes_are_synthesised(ndim: int) -> None:
    made = synthesised(3, 32, ndim, seed=4, modality="image")
    assert [scene.modalities for scene in made] == [("image", "image")] * 3
    for scene in made:
        first, second = (image.data for image in scene.images)
        assert first.shape == second.shape == (1, 1, *[32] * ndim)
        assert not torch.equal(first, second)
    again = synthesised(3, 32, ndim, seed=4, modality="image")
    assert all(torch.equal(a.images[0].data, b.images[0].data) for a, b in zip(made, again, strict=True))
    assert not torch.equal(made[0].images[0].data, synthesised(1, 32, ndim, seed=5, modality="image")[0].images[0].data)
    with pytest.raises(InputError, match="side"):
        synthesised(1, 4, ndim, 0, "image")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_a_killed_training_goes_on_bit_for_bit(config: Path) -> None:
    command = [sys.executable, "-m", "drmime", "train", str(config), "--set", "training.steps=400", "--set", "training.every=5"]
    command += ["--set", "training.patience=1000"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--out", str(config.parent / "whole")], check=True, env=environment, capture_output=True)
    checkpoint = config.parent / "cut" / "checkpoint.safetensors"
    process = subprocess.Popen([*command, "--out", str(config.parent / "cut")], env=environment)
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (config.parent / "cut" / "model.safetensors").exists()
    subprocess.run([*command, "--out", str(config.parent / "cut")], check=True, env=environment, capture_output=True)
    models = [(config.parent / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert models[0] == models[1]
