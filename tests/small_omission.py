"""A small omission run on the bundled digits, for the tests of the experiment and of its figures."""

from experiments.omission.config import OmitConfig, PoolConfig
from kdjax.config import RunConfig, TeacherConfig


def config(folder, **options) -> OmitConfig:
    data = PoolConfig(
        dataset="mnist5k",
        raw_dir=None,
        data_dir=folder / "data",
        train_images=options.pop("train_images", None),
        holdout=options.pop("holdout", 500),
    )
    teacher = TeacherConfig(
        widths=(32,), epochs=4, batch_size=50, jitter=0
    )  # all classes are as many: blocks share programs
    defaults = {"width": 12, "seeds": 2, "epochs": 2, "batch_size": 250, "learning_rate": 1e-2}
    return OmitConfig(
        **{
            **defaults,
            "run": RunConfig(devices=1, out=folder / "runs", name=options.pop("name", None)),
            "data": data,
            "teacher": teacher,
            **options,
        }
    )
