"""What the compiled library does, in loops that numba compiles: for where there is no library.

A module for each file of ``codec/csrc``, with the same functions of the same numbers. numba takes
half a second to import, so all of these are imported only where they are needed.
"""
