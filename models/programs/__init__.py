"""The papers' networks in integers: programs, all that coding with them needs.

* `program`: the kinds of nodes, and which lists of them are sound;
* `causality`: that no node sees what is not decoded yet;
* `file`: what their file holds and what has to hold of it;
* `integers`: the network that the codec sees, and which backend computes it;
* `plan`: which node is evaluated when, and what is kept of it;
* `native`: the backend in compiled C, whole tiles at once;
* `engine`, with an `arithmetic` (`loops`, or `pixelzip.models.gpu.programs`): those in arrays;
* `tables` and `heads`: what both need.
"""

FORMAT = "pixelzip frozen program 1"
"""What their files say that they are."""
