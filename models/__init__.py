"""Networks: their layers, how they are trained in floats, and how they are frozen into integers.

A network is trained in floats and *frozen* once; only the frozen, integer network ever codes. This
package knows no image file and no container: it meets the codec at one interface, the conditional
(`pixelzip.codec.conditional`).
"""
