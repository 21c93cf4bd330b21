"""Types of the arrays that modules exchange: their axes and dtypes, which the tests check."""

import numpy as np
from jaxtyping import Array, Float, Int, UInt8

HostImages = UInt8[np.ndarray, "images *shape"] | Float[np.ndarray, "images *shape"]
"""On the host: images [height, width, channels] as bytes, grey levels or RGB from 0 to 255; or images or features [d]
as floats, which are used as they are."""
HostLogits = Float[np.ndarray, "images classes"]
Images = Float[Array, "batch *shape"]
"""As a network takes them: images [height, width, channels] as floats, or features [d]."""
StoredImages = UInt8[Array, "batch *shape"] | Images
"""On the device: bytes, or floats that are used as they are."""
Logits = Float[Array, "batch classes"]
Labels = Int[Array, "batch"]
"""Class numbers from 0."""
