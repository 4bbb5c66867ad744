"""JPEG files, byte for byte."""
