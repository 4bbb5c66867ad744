"""Origins: what pixels were computed from, found by the encoder, rendered by the decoder.

Each origin is a module with

* ``NUMBER``, by which a file names it;
* ``find(pixels)``: the planes that the pixels were computed from, with the parameters of the
  computation, or None, quickly;
* ``layout(parameters, shape)``: sizes and kinds of these planes;
* ``render(parameters, planes, shape)``: the pixels, in exact integer arithmetic;
* ``describe(parameters)``: the same in words.

What ``find`` returns need not render to every pixel: the encoder compares, and corrects the others.
"""

from __future__ import annotations

from pixelzip.codec.origins import ycc

ORIGINS = (ycc,)
"""All origins, in the order in which they are tried."""
