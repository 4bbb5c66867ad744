"""Measurements: datasets, other codecs to compare with, and the reports made from both.

What is measured is always a real file: bits/dim here means *file bytes x 8 / sub-pixels*, and
stands beside the theoretical figure, the network's negative log-likelihood.
"""
