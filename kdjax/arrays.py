"""Types of the arrays that modules exchange: their axes and dtypes, which the tests check."""

import numpy as np
from jaxtyping import Array, Float, Int, UInt8

HostImages = UInt8[np.ndarray, "images height width channels"]
"""On the host: bytes, grey levels or RGB from 0 to 255."""
HostLogits = Float[np.ndarray, "images classes"]
Images = Float[Array, "batch height width channels"]
"""On the device: floats in [0, 1]."""
Logits = Float[Array, "batch classes"]
Labels = Int[Array, "batch"]
"""Class numbers from 0."""
