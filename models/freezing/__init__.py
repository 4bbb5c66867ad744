"""From floats to integers: `freeze` makes frozen networks' files, `tracing` writes down what a
network of the papers does, `thaw` starts a training from a frozen network.
"""
