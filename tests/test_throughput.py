"""The speed table: real steps, a share of a bare product, and refusals."""

import pytest

from experiments import throughput
from kdjax import cli


def test_measures_each_case(capsys):
    config = throughput.ThroughputConfig(cases=("2x16",), images=600, batch_size=64, rounds=2, seconds=0.05)
    throughput.main(config)
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[0] == "2x16"
    assert all(float(value) > 0 for value in row[1:])


@pytest.mark.parametrize(
    "arguments", [["--cases", "big"], ["--cases", "0x8"], ["--batch-size", "0"], ["--rounds", "0"]]
)
def test_bad_input_is_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.run(throughput.main, throughput.ThroughputConfig, throughput.PROG, arguments)
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
