"""Networks in floats, as they are trained: a module for each paper's, and what they share.

`architectures` knows them by name, `layers` and `outputs` hold what they are made of, `mixture` the
distributions, `field` what each sees. `photo` is the network of this project. Only training and
freezing need them: nothing here ever codes.
"""
