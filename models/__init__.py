"""Networks: their layers, how they are trained in floats, and how they are frozen into integers.

A network is trained in floats and *frozen* once; only the frozen, integer network ever codes. This
package knows no image file and no container: it meets the codec at one interface, the conditional
(`pixelzip.codec.conditional`).

* `networks`: the float networks, a module each; `training` them; `freezing` them;
* `frozen`: the engine of ``photo``'s kind, and what all frozen networks' files share;
* `programs`: the engine of the papers' networks;
* `zoo`: the frozen networks that ship.

Coding needs the last three only.
"""

import os

# MKL keeps freed memory in a list for each thread, and a forked process has been seen to follow a
# broken one for ever. Without them it asks the system, which costs next to nothing here. It has to
# be said before its first matrix product.
os.environ.setdefault("MKL_DISABLE_FAST_MM", "1")
