"""What a user has after `pip install`: the wheel in an environment of its own, tried. By hand::

    python -m build && python tests/smoke.py dist/pixelzip-*.whl

Nothing of the checkout is on the way: another folder, another environment, and only files that are
made there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

TRIED = """
import sys, time, numpy as np, pixelzip
from pathlib import Path
from PIL import Image
from pixelzip.codec import native

places = [Path(module.__file__) for module in (pixelzip, native)]
assert all(Path(sys.prefix) in place.parents for place in places), places
y, x = np.mgrid[:120, :200]
pixels = np.stack([x + y // 2, y + 9 * np.sin(x / 9) + 20, 255 - x], axis=2)
grain = np.random.default_rng(0).normal(0, 3, pixels.shape)
pixels = np.clip(pixels + grain, 0, 255).astype(np.uint8)
Image.fromarray(pixels).save("ramp.png")
Image.fromarray(pixels).save("ramp.jpg", quality=85)
for effort in ("photo", "max"):
    data = pixelzip.compress("ramp.png", network="photo", effort=effort)
    assert np.array_equal(pixelzip.decompress(data), pixels)
    assert "photo" in pixelzip.info(data).networks
    print(effort, len(data), "bytes")
Image.fromarray(pixels).save("saved.pxz")
assert np.array_equal(Image.open("saved.pxz"), pixels)
jpeg = pixelzip.compress("ramp.jpg")
assert pixelzip.original(jpeg) == Path("ramp.jpg").read_bytes()
print("JPEG", len(pixelzip.original(jpeg)), "->", len(jpeg), "bytes")
assert "torch" not in sys.modules
print("compiled:", native.coding() is not None)
"""

COMMANDS = (
    "networks",
    "compress ramp.png ramp.jpg -o packed/ --json",
    "info packed/ramp.png.pxz packed/ramp.jpg.pxz",
    "verify --recursive packed",
    "decompress packed/ramp.png.pxz -o back.png",
    "decompress packed/ramp.jpg.pxz -o back.jpg",
    "verify packed/ramp.png.pxz --against ramp.png",
)


def main(wheel: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        venv.create(home / "env", with_pip=True)
        programs = home / "env" / ("Scripts" if os.name == "nt" else "bin")
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        work = home / "work"
        (work / "packed").mkdir(parents=True)

        def run(*command: str | Path) -> None:
            subprocess.run([*map(str, command)], cwd=work, env=clean, check=True)

        run(programs / "python", "-m", "pip", "install", "--quiet", Path(wheel).resolve())
        run(programs / "python", "-c", TRIED)
        for command in COMMANDS:
            print("$ pixelzip", command, flush=True)
            run(programs / "pixelzip", *command.split())
        assert (work / "back.jpg").read_bytes() == (work / "ramp.jpg").read_bytes()
    print("the wheel works")


if __name__ == "__main__":
    main(*sys.argv[1:])
