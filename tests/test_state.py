"""Nothing that a host program sets for itself reaches a table or a file."""

from __future__ import annotations

import decimal
import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from make_golden import GOLDEN
from PIL import Image

import pixelzip
from pixelzip.codec import cdf, decimals, native
from pixelzip.codec import tables as codec_tables
from pixelzip.codec.errors import DeviceError
from pixelzip.models.programs import heads, tables

ROUNDINGS = [name for name in dir(decimal) if name.startswith("ROUND_")]
TABLES = {
    "cdf": [cdf.EXP, cdf.INVERSE_SCALE, cdf.SIGMOID],
    "models": [tables.EXP],
    "heads": [*heads.log_tables()],
}


def hostile(rounding: str) -> decimal.Context:
    """A context all of whose members are unusual."""
    signals = list(decimal.getcontext().traps)
    return decimal.Context(
        prec=3, rounding=rounding, Emin=-5, Emax=5, capitals=0, clamp=1, flags=signals,
        traps=signals,
    )  # fmt: skip


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_no_decimal_context_of_the_caller_changes_a_table(rounding: str) -> None:
    afresh = util.module_from_spec(codec_tables.__spec__)
    with decimal.localcontext(hostile(rounding)):
        codec_tables.__spec__.loader.exec_module(afresh)
        made = [afresh.EXP, afresh.INVERSE_SCALE, afresh.SIGMOID, *heads.log_tables.__wrapped__()]
    for found, expected in zip(made, [*TABLES["cdf"], *TABLES["heads"]], strict=True):
        assert np.array_equal(found, expected)


def test_the_tables_are_those_of_the_format() -> None:
    for found, first, last in (
        (cdf.EXP, 1048576, 6), (cdf.INVERSE_SCALE, 57250310, 7065), (cdf.SIGMOID, 0, 4194304),
    ):  # fmt: skip
        assert (found[0], found[-1]) == (first, last)
        assert not found.flags.writeable


def test_another_table_is_refused() -> None:
    with pytest.raises(DeviceError, match="decimal arithmetic"):
        decimals.table(map(decimal.Decimal, range(3)), 4, "0" * 64)


SCRIPT = """
import decimal, hashlib, sys
import numpy as np, torch
decimal.DefaultContext.rounding = decimal.ROUND_DOWN
decimal.DefaultContext.prec = 3
signals = list(decimal.getcontext().traps)
decimal.setcontext(decimal.Context(
    prec=2, rounding=decimal.ROUND_UP, Emin=-4, Emax=4, clamp=1, flags=signals, traps=signals))
np.seterr(all="raise")
torch.set_default_dtype(torch.float64)
torch.set_default_device("meta")
torch.set_flush_denormal(True)
import pixelzip
for name, network in (("rgb-small", "photo"), ("digit", "mnist")):
    data = open(f"{sys.argv[1]}/{name}.pxz", "rb").read()
    pixels = pixelzip.decompress_array(data)
    made = pixelzip.compress(pixels, network=network, origin="none", tile_size=512)
    assert made == data, name
pixels = pixelzip.decompress_array(f"{sys.argv[1]}/rgb-tiled.pxz")
data = pixelzip.compress(pixels, threads=1)
assert (pixelzip.decompress_array(data) == pixels).all()
print(pixelzip.info(data).networks, hashlib.sha256(data).hexdigest())
"""


def test_a_host_programs_settings_change_no_file(tmp_path: Path) -> None:
    # Compiled code holds the tables, so it must not come from another process's cache.
    environment = dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path))
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(GOLDEN)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    data = pixelzip.compress(pixelzip.decompress_array(GOLDEN / "rgb-tiled.pxz"))
    digest = hashlib.sha256(data).hexdigest()
    assert run.stdout == f"('luma', 'chroma') {digest}\n"


COMPILES = """
import os, sys
from numba.core import caching
from pixelzip.cli import main
fails = sys.argv.pop(1)
def full(*_):
    raise OSError(28, os.strerror(28))
if fails == "full":
    caching.IndexDataCacheFile.save = full
else:
    caching._CacheLocator.ensure_cache_path = full
sys.argv[0] = "pixelzip"
main()
"""


@pytest.mark.parametrize(
    ("fails", "reason"),
    [("full", "No space left on device"), ("locked", "no folder can be written")],
)
def test_without_a_cache_it_codes(tmp_path: Path, fails: str, reason: str) -> None:
    """A note says so, once for all kernels; another that there is something to compile."""
    run = subprocess.run(
        [sys.executable, "-c", COMPILES, fails, "decompress", str(GOLDEN / "digit.pxz"),
         "-o", "digit.png"],
        env=dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path / "cache"), PIXELZIP_ISA="none"),
        cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    compiling, note = run.stderr.splitlines()
    assert "note: compiling for the first use" in compiling
    assert f"note: compiled code cannot be kept ({reason})" in note
    assert (tmp_path / "digit.png").exists()


def test_what_is_prepared_once_is_ready_for_all_threads() -> None:
    """The tables of a compiled library are not filled while another thread reads them."""
    calls = []

    @native.once
    def prepared() -> int:
        calls.append(None)
        time.sleep(0.05)  # long enough for all to come
        return len(calls)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: prepared(), range(8))) == {1}
    prepared.cache_clear()
    assert prepared() == 2


def test_a_process_s_first_file_is_that_of_all(tmp_path: Path) -> None:
    """Of a decoded JPEG: several threads come to the model of coefficients at the same time."""
    first = (
        "import sys, numpy, pixelzip; from PIL import Image;"
        "data = pixelzip.compress(numpy.asarray(Image.open(sys.argv[1])), threads=4);"
        "sys.stdout.buffer.write(data)"
    )
    path = tmp_path / "some.jpg"
    with Image.open(Path(__file__).parent / "images" / "flower-64x48.png") as image:
        image.save(path)
    command = [sys.executable, "-c", first, str(path)]
    files = {subprocess.run(command, capture_output=True, check=True).stdout for _ in range(6)}
    (data,) = files
    assert np.array_equal(pixelzip.decompress(data), np.asarray(Image.open(path)))
