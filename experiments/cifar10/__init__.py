"""The parts of `experiments.cifar10_table`: its options, the sweeps behind it, evaluations of its networks."""
