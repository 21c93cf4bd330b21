"""Runs in words, for titles, tables and legends: settings, networks, teachers, and what is unusual about a sweep."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from analysis.tables import count_of, number
from kdjax.objectives import words_of
from kdjax.targets import WORDS

NAMES = {"width": "units", "temperature": "T", "soft_weight": "soft weight", "learning_rate": "rate"}
"""Columns of `results.csv`, in words."""


def in_words(setting: Mapping[str, Any] | pd.Series, columns: Iterable[str]) -> list[str]:
    """These columns of a setting: `300 units`, `T = 4`, `soft weight 0.5`, `rate 0.1`; no T where it is nan."""
    said = []
    for name in columns:
        value = setting[name]
        if name == "objective":
            said.append("hard labels" if value == "hard" else words_of(str(value)))
        elif name == "width":
            said.append(f"{value} units")
        elif name == "temperature":
            said += [f"T = {number(value)}"] * (not math.isnan(value))
        else:
            said.append(f"{NAMES[name]} {number(value)}")
    return said


def unit_of(config: Mapping[str, Any]) -> str:
    """What the width of a run's students counts; `config` is that of its identity."""
    network = config.get("network", {"post": "small", "fast": "fast"}.get(config.get("networks", ""), "mlp"))
    if network == "fast":
        return "channels in the first group"
    return "units per layer" if network == "mlp" else "units in the hidden layer"


def teachers_in_words(results: pd.DataFrame) -> str:
    """`1 teacher`, `3 teachers`; `an ensemble of 3 teachers`, whose name is those of its members."""
    names = results["teacher"].unique()
    members = str(names[0]).count("+") + 1
    return count_of(len(names), "teacher") if members == 1 or len(names) > 1 else f"an ensemble of {members} teachers"


def unusual_options(identity: dict[str, Any]) -> list[str]:
    """The options of a sweep that are not the defaults, in words, for every title: targets, network, images."""
    config = identity.get("config", {})
    usual = {"targets": "teacher", "network": "mlp", "augment": "none", "jitter": 0, "transfer_images": None}
    usual |= {"temperature_schedule": "constant", "mirrored_views": False}
    options = {name: config.get(name, value) for name, value in usual.items()}
    words = {name: f"{name.replace('_', ' ')} {str(value).replace('_', ' ')}" for name, value in options.items()}
    words["mirrored_views"] = "mirrored views"
    words["temperature_schedule"] += f" to T = {config.get('last_temperature', 1.0):g}"
    words["targets"] = f"targets: {WORDS.get(options['targets'], options['targets']).removesuffix(' targets')}"
    return [words[name] for name, value in options.items() if value != usual[name]]
