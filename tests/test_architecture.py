"""The shape of the repository: who may import whom, what is installed, what starts fast."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "pixelzip": "pixelzip",
    "codec": "pixelzip.codec",
    "models": "pixelzip.models",
    "bench": "pixelzip.bench",
}
"""Top-level folder -> the package that it is installed as."""

MAY_IMPORT = {
    "codec": {"codec"},
    "models": {"codec", "models"},
    "pixelzip": {"codec", "models", "pixelzip"},
    "bench": {"bench", "codec", "models", "pixelzip"},
}


def sources() -> dict[str, Path]:
    """Name -> file of each of our modules, as they lie in the checkout."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


def folder_of(module: str) -> str:
    part = module.split(".")[1] if "." in module else ""
    return part if part in FOLDERS else "pixelzip"


def imported_folders(code: str, module: str, is_package: bool = False) -> Iterator[str]:
    """Our folders that a module's code imports from, wherever in it the import stands."""
    for node in ast.walk(ast.parse(code)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                ups = node.level - is_package
                parents = module.split(".")[: -ups or None]
                base = ".".join([*parents, *filter(None, [node.module])])
            # `from pixelzip import codec` means the sub-package, not the package that holds it.
            names = [
                f"pixelzip.{alias.name}" if base == "pixelzip" else base for alias in node.names
            ]
        elif isinstance(node, ast.Call) and node.args:
            name = node.args[0]
            if "import_module" in ast.unparse(node.func) and isinstance(name, ast.Constant):
                names = [str(name.value)]
        yield from (folder_of(name) for name in names if name.split(".")[0] == "pixelzip")


@pytest.mark.parametrize(
    ("code", "folder"),
    [
        ("import pixelzip", "pixelzip"),
        ("import pixelzip.api", "pixelzip"),
        ("from pixelzip import api", "pixelzip"),
        ("from pixelzip import models", "models"),
        ("def f():\n    from pixelzip.models.zoo import find", "models"),
        ("from ..bench import report", "bench"),
        ("from .. import models", "models"),
        ("from . import container", "codec"),
        ("import importlib; importlib.import_module('pixelzip.models')", "models"),
    ],
)
def test_import_checker_sees(code: str, folder: str) -> None:
    assert list(imported_folders(code, "pixelzip.codec.encode")) == [folder]


@pytest.mark.parametrize("module", sources())
def test_import_rule(module: str) -> None:
    folder, path = folder_of(module), sources()[module]
    used = set(imported_folders(path.read_text(), module, path.name == "__init__.py"))
    assert used <= MAY_IMPORT[folder], f"{folder}/ may not import from {used - MAY_IMPORT[folder]}"


def imported_modules(code: str, ours: dict[str, Path]) -> set[str]:
    """Those of our modules that code imports, wherever in it, but for type checkers' sake."""
    found = set()
    nodes: list[ast.AST] = [ast.parse(code)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name if name in ours else str(node.module) for name in names}
        nodes += ast.iter_child_nodes(node)
    return found & set(ours)


def test_no_module_imports_itself_by_way_of_others() -> None:
    ours = sources()
    graph = {name: imported_modules(path.read_text(), ours) for name, path in ours.items()}
    assert "pixelzip.models.programs.file" in graph["pixelzip.models.zoo"]
    TopologicalSorter(graph).prepare()  # which names a circle


@pytest.mark.parametrize("module", sources())
def test_module_is_installed_from_this_checkout(module: str) -> None:
    path = sources()[module]
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"{module} is not installed: run make again, or see pyproject.toml"
    assert spec.origin is not None
    assert Path(spec.origin).resolve() == path
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path.name} has no docstring"


HEAVY = {
    "constriction", "fsspec", "imagecodecs", "matplotlib", "numba", "ray", "s3fs", "torch",
    "torchvision",
}  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-c", "import pixelzip"],
        [str(Path(sys.executable).with_name("pixelzip")), "--help"],
        [str(Path(sys.executable).with_name("pixelzip")), "compress", "--help"],
        [str(Path(sys.executable).with_name("pixelzip")), "bench", "--help"],
    ],
    ids=["import", "help", "compress-help", "bench-help"],
)
def test_starts_without_heavy_imports(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    # Each line reads "import time: <self> | <cumulative> | <module>".
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "pixelzip" in imported
    assert not {name.split(".")[0] for name in imported} & HEAVY


CODING = """
import io
import sys
import numpy as np
import pixelzip
from pathlib import Path
from PIL import Image
from pixelzip.cli import cli
from pixelzip.codec import tiles
from pixelzip.models import zoo

root = Path(sys.argv[1])
small, large = (root / "tests" / "images" / f"{name}.png" for name in
                ("knob-32x32", "palms-96x64"))
photo = np.asarray(Image.open(root / "examples" / "parrots.png"))[100:228, 300:460]

def retouched():
    "A decoded JPEG, and something drawn over it."
    file = io.BytesIO()
    Image.open(large).save(file, "JPEG", quality=90, subsampling=2)
    pixels = np.array(Image.open(file))
    pixels[20:24, 30:40] = 255, 0, 0
    return pixels

def few_colours():
    "All levels of each channel, but few of all colours."
    luma = photo.astype(np.int64) @ [77, 150, 29] >> 8
    return (photo - luma[:, :, None] % 6).clip(0, 255).astype(np.uint8)

def few_levels():
    "16-bit samples of ten real bits, stretched without a rule that is known."
    levels = np.cumsum(1 + np.arange(1024) % 7 * 17 % 60)
    return levels[4 * photo.astype(np.int64) + np.arange(160)[:, None] % 4].astype(np.uint16)

for pixels, found in ((photo, "PhotoCD"), (retouched(), "libjpeg"), (few_colours(), "occur"),
                      (few_levels(), "levels")):
    data = pixelzip.compress(pixels)
    assert any(found in word for word in pixelzip.info(data).found), pixelzip.info(data).found
    assert np.array_equal(pixelzip.decompress_array(data), pixels)
    pixelzip.cost_map(data)
Image.open(large).quantize(40).save("palette.png")
Image.open(large).convert("L").save("grey.pxz")
Image.open("grey.pxz").load()
Image.fromarray(retouched()).save("retouched.png")
pixelzip.decompress_many(pixelzip.compress_many([small, large, "palette.png"]))
pixelzip.sample("tiny", 1, width=8, height=8)
binary = np.eye(9, 7, dtype=np.uint8) * 255
for name in zoo.names():
    if not zoo.load(name).given:
        data = pixelzip.compress(binary, network=name)
        assert np.array_equal(pixelzip.decompress_array(data), binary)
        pixelzip.sample(name, 1, width=8, height=8)
        payload = tiles.encode_tiles(zoo.load(name), [binary[:, :, None]])
        (back,) = tiles.decode_tiles(zoo.load(name), payload, [(9, 7)], 1)
        assert np.array_equal(back[:, :, 0], binary)
for command in (["compress", "palette.png", "retouched.png"], ["info", "retouched.pxz"],
                ["decompress", "grey.pxz", "palette.pxz", "retouched.pxz", "--force"]):
    cli(command, standalone_mode=False)
assert not {"torch", "numba"} & set(sys.modules)
"""


def test_coding_on_a_cpu_needs_neither_torch_nor_numba(tmp_path: Path) -> None:
    """With every network of the zoo; from Python, from the command line, as Pillow's plugin."""
    command = [sys.executable, "-c", CODING, str(ROOT)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "grey.png").exists()


WITH_TORCH = {"freezing", "gpu", "networks", "training"}


@pytest.mark.parametrize("module", [m for m in sources() if folder_of(m) != "bench"])
def test_where_torch_is_imported(module: str) -> None:
    """In training, in freezing, and for GPUs; `architectures` counts parameters with it."""
    tree = ast.parse(sources()[module].read_text())
    named = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            named.append(node.module or "")
    if any(name.split(".")[0] == "torch" for name in named):
        assert module.split(".")[1] == "models"
        assert module.split(".")[2] in WITH_TORCH


TEXT = {"read_text": 0, "write_text": 1}
"""Methods -> how many arguments come before the encoding."""


def without_encoding(code: str) -> list[int]:
    """The lines that read or write text as the system's settings say."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr in TEXT
        if len(call.args) <= TEXT[call.func.attr]
        and all(keyword.arg != "encoding" for keyword in call.keywords)
    ]


def test_text_is_the_same_in_every_locale() -> None:
    """Windows takes text without an encoding for that of its language."""
    assert without_encoding("Path(p).read_text()\np.write_text(t)\np.read_text('utf-8')") == [1, 2]
    found = {name: without_encoding(path.read_text("utf-8")) for name, path in sources().items()}
    assert not {name: lines for name, lines in found.items() if lines}


def test_what_has_no_wheel_is_not_asked_for() -> None:
    """constriction has none for Linux on ARM, where our reading of its coder takes its place."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (found,) = (one for one in project["dependencies"] if one.startswith("constriction"))
    marker = Requirement(found).marker
    assert marker is not None
    for system, machine, wanted in (
        ("linux", "aarch64", False), ("linux", "x86_64", True), ("darwin", "arm64", True)
    ):  # fmt: skip
        assert marker.evaluate({"sys_platform": system, "platform_machine": machine}) is wanted


def test_wheel_holds_everything_under_one_name(tmp_path: Path) -> None:
    """Built from a copy: what a build leaves behind must not get into the next one."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    for folder in FOLDERS:
        ignore = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / folder, checkout / folder, ignore=ignore)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", tmp_path, checkout]
    subprocess.run(command, check=True, timeout=500)
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    wanted = {path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    wanted |= {*(ROOT / "models" / "zoo").rglob("*.safetensors"), ROOT / "pixelzip" / "py.typed"}
    wanted |= {*(ROOT / "models" / "zoo").rglob("*.md"), *(ROOT / "codec" / "jpeg").glob("*.xz")}
    places = {path.relative_to(ROOT).as_posix() for path in wanted}
    places |= {"codec/_coding.abi3.so", "models/frozen/_engine.abi3.so"}
    assert held == {p if p.startswith("pixelzip/") else f"pixelzip/{p}" for p in places}


def test_mypy_sees_the_types_of_each_folder(tmp_path: Path) -> None:
    """Types that mypy can't find are `Any`, and then its silence would mean nothing."""
    probes = {
        "codec": "from pixelzip.codec.errors import FormatError\nreveal_type(FormatError)",
        "models": "from pixelzip.models.zoo import names\nreveal_type(names)",
        "pixelzip": "from pixelzip import decompress\nreveal_type(decompress)",
    }
    options = ["--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache"]
    command = [sys.executable, "-m", "mypy", *options, "-c", "\n".join(probes.values())]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    revealed = [line for line in done.stdout.splitlines() if "Revealed type" in line]
    assert len(revealed) == len(probes), done.stdout + done.stderr
    assert "FormatError" in revealed[0]
    assert "list[" in revealed[1]
    assert "Image" in revealed[2]
    assert not any("Any" in line for line in revealed)


def test_checkers_are_strict() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert tools["mypy"]["strict"] is True
    assert {"E", "F", "W", "I", "UP", "B", "SIM", "RUF", "PT", "N", "C4"} <= set(
        tools["ruff"]["lint"]["select"]
    )
    # An override may say that a library has no types, never that ours need none.
    for override in tools["mypy"]["overrides"]:
        assert not any(name.startswith("pixelzip") for name in override["module"])
        assert set(override) == {"module", "ignore_missing_imports"}
