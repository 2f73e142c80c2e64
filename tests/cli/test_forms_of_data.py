"""What `--data` takes for the forms in which images are kept, and what it says."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from rl_jax import data
from rl_jax.cli import main
from rl_jax.cli import recipe as recipes
from rl_jax.errors import UsageError
from rl_jax.run import datasets


def shards(folder, *, captions=False):
    """Two tars to learn from and one to score, of 8 x 8 pixels."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for name, count in (("train-0", 20), ("train-1", 20), ("val-0", 10)):
        with tarfile.open(folder / f"{name}.tar", "w") as file:
            for i in range(count):
                pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
                image = io.BytesIO()
                Image.fromarray(pixels).save(image, "PNG")
                members = {"png": image.getvalue(), "cls": b"%d" % (i % 2)}
                if captions:
                    members["txt"] = b"image number %d" % i
                for suffix, content in members.items():
                    entry = tarfile.TarInfo(f"{i:03}.{suffix}")
                    entry.size = len(content)
                    file.addfile(entry, io.BytesIO(content))
    return folder


SMALL = [
    *("--steps", "2", "--batch-size", "8", "--encoder", "mlp", "--no-evaluate"),
    *("--encoder.features", "8", "--encoder.out", "8", "--no-probe"),
    *("--optimizer", "adamw", "--augment", "digits"),
]


def test_a_run_on_shards_and_what_reopens_them(tmp_path, capsys):
    where, run = shards(tmp_path / "data"), str(tmp_path / "run")
    main(["pretrain", "simclr", "--data", str(where), *SMALL, "--run-dir", run])
    assert "simclr on data: 40 images 8x8x3" in capsys.readouterr().out
    others, output = str(where / "{train,val}-0.tar"), tmp_path / "found.npz"
    main(["embed", run, others, "-o", str(output)])
    with np.load(output) as found:
        assert found["h"].shape == (30, 8)
        np.testing.assert_array_equal(np.bincount(found["split"]), [20, 10])
        np.testing.assert_array_equal(found["label"], np.arange(30) % 2)
        assert found["path"][29] == "val-0.tar/009.png"


def test_the_source_of_each_path(tmp_path):
    where = shards(tmp_path / "data", captions=True)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_dict.json").touch()
    (tmp_path / "a.parquet").touch()
    (tmp_path / "images").mkdir()
    for name, expected in (
        (where, data.shards),
        (where / "val-0.tar", data.shards),
        (where / "train-{0..1}.tar", data.shards),
        (tmp_path / "saved", data.hugging_face),
        (tmp_path / "a.parquet", data.hugging_face),
        (tmp_path / "images", data.folder),
    ):
        decided = {"path": str(name)}
        assert datasets.chosen(str(name), "images") == (expected, decided)
        assert datasets.chosen(str(name), "captions") == (data.captioned, decided)
        spec = datasets.spec_of(str(name))
        assert datasets.factory(spec) is expected
    factory, decided = datasets.chosen(str(where), "captions")
    assert datasets.usual(factory, decided) == {"size": 8}
    assert datasets.build(datasets.spec_of(str(where), size=8)).size == 40


def test_a_pattern_that_the_shell_has_read():
    argv = ["simclr", "--data", "a-0.tar", "a-1.tar", "a-2.tar", "--steps", "3"]
    with pytest.raises(UsageError, match="--data: got 3 values, a-0.tar .* in quotes"):
        recipes.read("pretrain", argv)


@pytest.mark.parametrize("name", ["cifar10", "ylecun/mnist"])
def test_a_name_of_the_hub_is_told_how_to_get_here(name):
    with pytest.raises(UsageError, match="read from the network: .*save_to_"):
        datasets.chosen(name, "images")
    with pytest.raises(UsageError) as error:
        datasets.chosen("photos/nothing.d", "images")
    assert "network" not in str(error.value)


def test_a_path_that_is_none_of_them(tmp_path):
    for name in ("none.tar", "none.parquet", "a.zip"):
        (tmp_path / "a.zip").touch()
        with pytest.raises(UsageError, match=r"tar shards \(.*Hugging Face"):
            datasets.chosen(str(tmp_path / name), "images")


def test_how_images_are_read_is_asked_for_and_changes_nothing(
    tmp_path, capsys, monkeypatch
):
    """Of images that do not fit into memory, in training and when it goes on."""
    asked, stream = [], data.stream

    def listening(source, **options):
        asked.append({k: options[k] for k in ("workers", "threads", "timeout")})
        return stream(source, **options)

    monkeypatch.setattr(data, "stream", listening)
    monkeypatch.setattr("rl_jax.run.pretrain.image_limit", lambda: 0)
    where, runs = shards(tmp_path / "data"), [tmp_path / "a", tmp_path / "b"]
    start = ["pretrain", "simclr", "--data", str(where), *SMALL, "--run-dir"]
    main([*start, str(runs[0])])
    main([*start, str(runs[1]), "--threads", "3", "--data-timeout", "7"])
    longer = ["resume", "--steps", "4", "--no-evaluate"]
    main([*longer, str(runs[0]), "--workers", "1"])
    main([*longer, str(runs[1])])
    assert asked == [
        {"workers": 0, "threads": None, "timeout": 120.0},
        {"workers": 0, "threads": 3, "timeout": 7.0},
        {"workers": 1, "threads": None, "timeout": 120.0},
        {"workers": 0, "threads": None, "timeout": 120.0},
    ]
    losses = [
        [
            json.loads(row)["loss"]
            for row in (run / "metrics.jsonl").read_text().splitlines()
        ]
        for run in runs
    ]
    assert losses[0] == losses[1]
    for flags, words in (
        (["--workers", "-1"], "pretrain: workers must be >= 0, got -1"),
        (["--threads", "0"], "pretrain: threads must be >= 1, got 0"),
        (["--data-timeout", "0"], "pretrain: timeout must be > 0 seconds, got 0.0"),
    ):
        with pytest.raises(SystemExit) as refused:
            main([*start, str(tmp_path / "c"), *flags])
        assert refused.value.code == 2
        assert words in capsys.readouterr().err
        assert not (tmp_path / "c").exists()
