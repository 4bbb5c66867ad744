"""The papers' networks in integers: programs, all that coding with them needs.

* `program`: the kinds of nodes, and which lists of them are sound;
* `causality`: that no node sees what is not decoded yet;
* `integers`: a file of programs, and the network that the codec sees;
* `engine`: which node is evaluated where, at which step;
* `arithmetic`, with `tables` and `heads`: what a node does to numbers.
"""
