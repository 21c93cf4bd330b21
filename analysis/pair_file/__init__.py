"""Files of a student's and its teacher's logits, for those who measure them."""

from analysis.pair_file.reading import read_pair
from analysis.pair_file.sources import ENTRIES, Full, Logits, PairFile, Rest, TopK

__all__ = ["ENTRIES", "Full", "Logits", "PairFile", "Rest", "TopK", "read_pair"]
