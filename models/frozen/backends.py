"""Which backend computes a frozen network."""

from __future__ import annotations

from pixelzip.codec.native import NONE
from pixelzip.models.frozen import native
from pixelzip.models.frozen.architecture import PhotoConfig
from pixelzip.models.frozen.network import Frozen
from pixelzip.models.frozen.shell import Tensors


def make(
    name: str,
    tensors: Tensors,
    config: PhotoConfig,
    sound: bytes | None = None,
    *,
    device: str = "cpu",
    carrier: str | None = None,
) -> Frozen:
    """The network on a torch device, in the fastest way there is.

    On the CPU that is compiled C, or loops that numba compiles where there is none; elsewhere it is
    torch. ``carrier`` asks for torch's products in a number format (see
    `pixelzip.models.gpu.carriers`), ``sound`` is as `Frozen` takes it. Raises NetworkFileError if
    its integers are not sound, DeviceError if there is no such device.
    """
    if device == "cpu" and carrier is None:
        isa = native.asked_for() or (*native.instruction_sets(), NONE)[0]
        if isa != NONE:
            return native.Native(name, tensors, config, isa, sound)
        from pixelzip.models.frozen.kernels import Kernels
        from pixelzip.models.frozen.walk import Walked

        return Walked(name, tensors, config, Kernels(), sound)
    from pixelzip.models.frozen.walk import Walked
    from pixelzip.models.gpu.photo import Twins

    return Walked(name, tensors, config, Twins(device, carrier), sound)
