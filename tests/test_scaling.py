"""The simulation of a cluster against closed forms, and its table against what was measured."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

PATH = Path(__file__).parents[1] / "docs" / "results" / "scaling.py"
SPEC = importlib.util.spec_from_file_location("scaling", PATH)
assert SPEC and SPEC.loader
scaling = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(scaling)
Costs, Trouble, makespan = scaling.Costs, scaling.Trouble, scaling.makespan


@pytest.mark.parametrize("blocks, workers", [(1, 1), (7, 3), (12, 4), (5, 8), (100, 7)])
def test_equal_blocks_run_in_rounds(blocks, workers):
    rounds = math.ceil(blocks / workers)
    assert makespan([3.0] * blocks, workers) == pytest.approx(3 * rounds)
    costs = Costs(startup=10, schedule=1e-3, store=2e-3, gather=1e-4)
    bare = 10 + 3 * rounds + 1e-4 * blocks
    # At least one block is scheduled and one stored; at most every one waits for every other.
    assert bare + 3e-3 <= makespan([3.0] * blocks, workers, costs) <= bare + 3e-3 * blocks


def test_one_worker_waits_for_each_block_to_be_scheduled_and_for_the_last_to_be_stored():
    assert makespan([3.0] * 5, 1, Costs(2, 0.25, 0.5, 0.125)) == pytest.approx(2 + 5 * 3.25 + 0.5 + 5 * 0.125)


def test_the_scheduler_is_the_limit():
    assert makespan([0.1] * 1000, 500, Costs(schedule=0.5)) == pytest.approx(1000 * 0.5 + 0.1)


def test_the_main_process_is_the_limit():
    assert makespan([0.1] * 1000, 500, Costs(store=0.5)) == pytest.approx(0.1 + 1000 * 0.5)


def test_efficiency_falls_where_block_seconds_over_serial_seconds_says():
    # Workers hand in a block every 8 / N seconds, and 0.25 are needed for each: to 32 workers there is no wait.
    ideal = {workers: 8 * 6400 / workers for workers in (4, 16, 32, 64, 320)}
    found = {workers: ideal[workers] / makespan([8.0] * 6400, workers, Costs(store=0.25)) for workers in ideal}
    assert all(found[workers] > 0.97 for workers in (4, 16, 32))
    assert found[64] == pytest.approx(32 / 64, rel=0.02) and found[320] == pytest.approx(32 / 320, rel=0.02)


def test_workers_of_half_speed_do_less():
    # 200 of 1,000 at half speed are worth 100.
    assert makespan([1.0] * 90_000, 1000, trouble=Trouble(slow=0.2)) == pytest.approx(100, rel=0.03)


def test_deaths_cost_what_is_expected():
    # A block of t seconds that starts again at each death, of rate r, takes (exp(rt) − 1) / r on average; each of the
    # exp(rt) − 1 deaths also costs the time away.
    seconds, rate, away = 600.0, 3.0, 100.0
    lost = math.expm1(rate * seconds / 3600)
    expected = lost / (rate / 3600) + lost * away
    blocks = 4000
    found = makespan([seconds] * blocks, 1, trouble=Trouble(deaths=rate, away=away)) / blocks
    assert found == pytest.approx(expected, rel=0.03) and found > 1.2 * seconds


def test_an_idle_worker_takes_the_block_of_a_dead_one():
    # Otherwise the block would wait for its worker, which is away longer than all the rest takes.
    assert makespan([600.0] * 8, 64, trouble=Trouble(deaths=3, away=1e6)) < 1e5


def test_unequal_blocks_keep_graham_s_bound():
    for seed in range(20):
        seconds = scaling.block_times(50, 2.0, 1.0, seed)
        found = makespan(seconds, 8)
        assert sum(seconds) / 8 <= found <= sum(seconds) / 8 + 7 / 8 * max(seconds)  # Graham 1969


def test_block_times_have_their_mean_and_spread():
    seconds = np.array(scaling.block_times(200_000, 5.0, 0.3, 1))
    assert seconds.mean() == pytest.approx(5, rel=0.01) and np.log(seconds).std() == pytest.approx(0.3, rel=0.01)


def test_where_it_stops_being_linear_and_which_blocks_are_right(monkeypatch):
    # Blocks of 4 take 4 s and the main process 0.1 s for each: 40 workers fill it. Blocks of 1 take as long for each
    # student but fill it with 10 workers; with blocks of 16, which take longer, the last of them are waited for.
    monkeypatch.setattr(scaling, "STUDENTS", 3200)
    monkeypatch.setattr(scaling, "TROUBLE", scaling.CALM)
    blocks = pd.DataFrame({"block": [1.0, 4.0, 24.0], "store": 0.1, "gather": 0.0, "startup": 0.0, "spread": 0.0})
    rows = scaling.simulated(blocks.set_index(pd.Index([1, 4, 16], name="key")), 0.0, (1, 8, 16, 32, 64))
    assert scaling.finding(rows)[:2] == (32, 4)
    by = rows.set_index(["workers", "size"])
    assert by.efficiency[1, 4] == pytest.approx(1, rel=0.01) and by.efficiency[1, 16] == pytest.approx(2 / 3, rel=0.01)
    assert by.writing[64, 4] > by["whole blocks"][64, 4]


def test_the_published_table_is_what_the_simulation_gives():
    blocks, schedule = scaling.read("scaling_blocks"), scaling.read("scaling_scheduler").schedule_ms.max() / 1e3
    again = scaling.table(scaling.simulated(blocks, schedule, scaling.SHOWN)).to_csv(index=False, lineterminator="\n")
    assert again == (scaling.DATA / "scaling.csv").read_text()
