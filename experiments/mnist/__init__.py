"""The parts of `experiments.mnist_table`: its options, the sweeps behind it, evaluations of its networks."""
