"""The options of `experiments.omit_digit`."""
