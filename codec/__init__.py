"""The codec: pixels to bytes and back, against whichever network answers `Conditional`.

From the outside in:

* `picture`: what goes in and comes out, a `Picture`, and the planes that it is stored as.
* `encode`, `decode`: the top. A picture becomes a file and comes back; each part is coded in
  whichever way is the smallest.
* `transforms`: what a picture's components are stored as.
* `origins`, `corrections`: what pixels were computed from, and where the result differs.
* `given`: what is known of earlier planes where a later one is coded.
* `methods`: how a tile is coded, a table.
* `container`: the layout of a ``.pxz`` file, and nothing of what is inside its payloads.
* `packed`: the lossless fallback that needs no network, for flat colour, text and palette art.
* `tiles`, `cdf`, `coder`: the network's tiles, from integer parameters to range-coded bytes.
* `raw_lzma`: the bare LZMA streams that `packed` and `container` share.
* `conditional`: the interface that a network answers.
* `workers`, `progress`: sharing the work out to the cores, and how far it has come.
* `errors`: what can go wrong, as types.

``docs/format.md`` specifies every byte. Nothing here imports a network or knows a file name.
"""
