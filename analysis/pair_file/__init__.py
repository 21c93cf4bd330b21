"""Files of a student's and its teacher's logits, for those who measure them."""

from analysis.pair_file.pair import PairFile
from analysis.pair_file.reading import read_pair

__all__ = ["PairFile", "read_pair"]
