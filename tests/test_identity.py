"""What fixes a run's results, and what does not."""

import copy
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from experiments import cifar10_table, mnist_table, omit_digit
from experiments.cifar10.options import ColourConfig
from experiments.mnist.options import DigitsConfig
from experiments.omission.config import OmitConfig, PoolConfig
from kdjax import datasets, sweeps, teachers
from kdjax.config import NUMERICS, DataConfig, RunConfig, SweepConfig, TeacherConfig, TrainConfig, as_declared
from kdjax.errors import BadInput
from kdjax.identity import NO_RESULT, added, canonical_json, digest, identity, result_fields
from tests import raw_files


@dataclasses.dataclass(frozen=True)
class Group:
    units: int = 3


@dataclasses.dataclass(frozen=True)
class Config:
    rate: float = 0.5
    title: str = dataclasses.field(default="a", metadata=NO_RESULT)
    warmth: float = dataclasses.field(default=1.0, metadata=added(0.0))
    group: Group = dataclasses.field(default_factory=Group)


def test_fields_that_fix_no_result_later_fields_at_their_old_value_and_groups_are_left_out():
    assert result_fields(Config(warmth=0.0)) == {"rate": 0.5}
    assert result_fields(Config()) == {"rate": 0.5, "warmth": 1.0}  # it is the old value that counts, not the default
    assert result_fields(Config(title="b", group=Group(4))) == result_fields(Config())


@dataclasses.dataclass(frozen=True)
class Declared:
    """A config of a script; those of kdjax are checked for their types in these tests, and only here."""

    rates: tuple[float, ...] = (1.0, 2.0)
    seeds: int = 3
    folders: tuple[Path, ...] = ()
    most: float | None = None
    fresh: bool = False

    def __post_init__(self) -> None:
        as_declared(self)


def test_what_a_script_writes_otherwise_and_is_equal_has_one_identity():
    """1 for 1.0, a list, an array, a range or one value for a tuple, NumPy's numbers, text for a path."""
    usual = Declared(folders=(Path("a"),), most=2.0)
    for rates in (np.array([1, 2]), [1, 2], range(1, 3), (np.float32(1), np.int64(2))):
        written = Declared(rates=rates, seeds=np.int64(3), folders=["a"], most=2)
        assert canonical_json(written) == canonical_json(usual) and written == usual and hash(written) == hash(usual)
        assert [type(one) for one in (*written.rates, written.seeds, written.most)] == [float, float, int, float]
    single = [Declared(rates=rate, folders=folder) for rate, folder in ((1, "a"), ((1.0,), (Path("a"),)))]
    assert canonical_json(single[0]) == canonical_json(single[1])
    assert canonical_json(Declared(fresh=True, most=None)) != canonical_json(usual)
    assert type(Declared(seeds=3.0).seeds) is int
    with pytest.raises(BadInput, match=r"--seeds 2\.5 is not allowed: it is a whole number"):
        Declared(seeds=2.5)


def test_an_identity_holds_what_a_default_became_and_whose_targets_were_learnt():
    facts = identity("sweep", Config(), {"name": "digits"}, 4, ["first"], epochs=20)
    assert facts["config"] == {"rate": 0.5, "warmth": 1.0, "epochs": 20}
    assert (facts["experiment"], facts["data"], facts["numerics"]) == ("sweep", {"name": "digits"}, 4)
    assert facts["teachers"] == ["first"] and "teachers" not in identity("sweep", Config(), {}, 4)
    changes = [
        identity("table", Config(), {"name": "digits"}, 4, ["first"], epochs=20),
        identity("sweep", Config(rate=0.25), {"name": "digits"}, 4, ["first"], epochs=20),
        identity("sweep", Config(), {"name": "letters"}, 4, ["first"], epochs=20),
        identity("sweep", Config(), {"name": "digits"}, 5, ["first"], epochs=20),
        identity("sweep", Config(), {"name": "digits"}, 4, ["second"], epochs=20),
        identity("sweep", Config(), {"name": "digits"}, 4, ["first"], epochs=21),
    ]
    assert len({digest(change) for change in [facts, *changes]}) == len(changes) + 1


def test_equal_facts_have_equal_text():
    one = {"b": (1, math.inf), "a": Path("x/y"), "c": Group()}
    other = {"c": {"units": 3}, "a": "x/y", "b": [1, "inf"]}
    assert canonical_json(one) == canonical_json(other) == '{"a":"x/y","b":[1,"inf"],"c":{"units":3}}'
    assert json.loads(canonical_json({"t": -math.inf})) == {"t": "-inf"}


FIX_NO_RESULT = {
    SweepConfig: {"baselines", "teacher_from"},
    TrainConfig: set(),
    TeacherConfig: set(),
    OmitConfig: {"digit", "each", "keep", "teacher_from"},
    mnist_table.TableConfig: {"preset", "only"},
    cifar10_table.TableConfig: {"preset", "teacher_from", "teacher_seed", "batch_statistics"},
}
"""They only say where the teacher is, or become other facts of the identity (the objectives, classes, parts)."""


@pytest.mark.parametrize("kind", FIX_NO_RESULT)
def test_every_other_option_is_part_of_the_identity(kind):
    config = kind((16,), 2, 50) if kind is TrainConfig else kind()
    silent = set()
    for field in dataclasses.fields(config):
        other = copy.copy(config)
        object.__setattr__(other, field.name, "another")
        if not dataclasses.is_dataclass(getattr(config, field.name)) and result_fields(other) == result_fields(config):
            silent.add(field.name)
    assert silent == FIX_NO_RESULT[kind]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Configs of bundled digits and of a small CIFAR-10."""
    root = tmp_path_factory.mktemp("data")
    raw_files.write_random_cifar(root / "raw")
    digits = DataConfig("mnist5k", None, root / "prepared", train_images=300)
    return digits, ColourConfig("cifar10", root / "raw", root / "prepared", holdout=20)


RECIPES = {
    "mlp": TrainConfig((16, 12), 2, 50),
    "small": TrainConfig((16,), 2, 50, network="small"),
    "big": TrainConfig((16,), 2, 50, network="big"),
    "fast": TrainConfig((8,), 2, 50, network="fast"),
}


@pytest.mark.parametrize("family", NUMERICS)
def test_new_numerics_of_a_family_change_its_own_teachers_fingerprints_and_no_other(data, monkeypatch, family):
    digits = datasets.load(data[0])

    def fingerprints():
        return {name: teachers.fingerprint(recipe, 1e-3, 0, digits) for name, recipe in RECIPES.items()}

    before = fingerprints()
    monkeypatch.setitem(NUMERICS, family, NUMERICS[family] + 1)
    after = fingerprints()
    changed = {name for name in RECIPES if before[name] != after[name]}
    assert changed == {"mlp": {"mlp"}, "cnn": {"small", "big"}, "fast": {"fast"}}[family]


@pytest.mark.parametrize("family, network", [("mlp", "mlp"), ("cnn", "small")])
def test_a_sweep_belongs_to_the_numerics_of_its_students_and_of_its_teachers(data, monkeypatch, family, network):
    config = SweepConfig(network=network, widths=(16,), data=data[0])  # taught by a multi-layer perceptron
    before = sweeps.prepare(config).identity
    monkeypatch.setitem(NUMERICS, family, 99)
    after = sweeps.prepare(config).identity
    assert after["numerics"] == 99 != before["numerics"]
    assert (after["teachers"] != before["teachers"]) == (family == "mlp")


ELSEWHERE = {
    "out": Path("elsewhere"),
    "name": "another",
    "fresh": True,
    "checkpoint_seconds": 1.0,
    "dry_run": True,
    "devices": 2,
    "cluster": "local:2",
}
EXPERIMENTS = {
    "temperature_sweep": lambda digits, _, run: sweeps.prepare(SweepConfig(data=digits, run=run)),
    "omit_digit": lambda digits, _, run: omit_digit.prepare(
        OmitConfig(data=PoolConfig("mnist5k", None, digits.data_dir, holdout=500), run=run)
    ),
    "mnist_table": lambda digits, _, run: mnist_table.prepare(
        mnist_table.TableConfig(
            data=DigitsConfig("mnist5k", None, digits.data_dir, train_images=300),
            run=run,
            batch_size=50,
            teacher=TeacherConfig(batch_size=50),
        )
    ),
    "cifar10_table": lambda _, pictures, run: cifar10_table.prepare(
        cifar10_table.TableConfig(data=pictures, run=run, width_multiplier=0.125, batch_size=16)
    ),
}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_where_and_how_a_run_takes_place_is_no_part_of_its_identity(data, experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ELSEWHERE.keys() == {field.name for field in dataclasses.fields(RunConfig)}
    prepare = EXPERIMENTS[experiment]
    usual = prepare(*data, RunConfig())
    assert usual.identity["experiment"] == experiment
    for name, value in ELSEWHERE.items():
        assert getattr(RunConfig(), name) != value
        other = prepare(*data, RunConfig(**{name: value}))
        assert other.identity == usual.identity, name
        assert (other.folder == usual.folder) == (name not in ("out", "name")), name
    assert not list(tmp_path.iterdir())


def test_the_data_are_identified_by_all_three_parts_and_by_how_features_were_standardised(data):
    digits = datasets.load(dataclasses.replace(data[0], holdout=20))
    flipped = {
        part: dataclasses.replace(digits, **{part: split._replace(labels=np.roll(split.labels, 1))})
        for part, split in (("holdout", digits.holdout), ("test", digits.test))
    }
    scaled = [
        dataclasses.replace(digits, standardisation=datasets.Standardisation(np.zeros(3), np.full(3, deviation)))
        for deviation in (1.0, 2.0)  # of features which, standardised, are the same
    ]
    others = [one.identity() for one in (digits, *flipped.values(), *scaled)]
    assert len({digest(other) for other in others}) == len(others)
