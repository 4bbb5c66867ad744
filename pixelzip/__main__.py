"""``python -m pixelzip`` is the ``pixelzip`` command."""

from pixelzip.cli import main

main()
