"""Networks: their layers, how they are trained in floats, and how they are frozen into integers.

A network is trained in floats and *frozen* once; only the frozen, integer network ever codes. This
package knows no image file and no container: it meets the codec at one interface, the conditional
(`pixelzip.codec.conditional`).

* `networks`: the float networks, a module each; `training` them; `freezing` them;
* `frozen`: the engine of ``photo``'s kind, and what all frozen networks' files share;
* `programs`: the engine of the papers' networks;
* `gpu`: what both need torch for, on GPUs;
* `zoo`: the frozen networks that ship.

Coding needs the last four only.
"""
