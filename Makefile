# Two commands do everything on a fresh machine:
#
#   make demo    compress a photograph, bring it back, compare
#   make test    ruff, mypy and pytest: what CI runs
#
# and a third one, for which nothing else should run on the machine, the results page:
#
#   make bench   measure on DATA (see bench/page.py), write docs/benchmarks.md and README's table
#
# and a fourth one, for those who have trained the papers' networks (see bench/papers.py):
#
#   make papers RUNS=runs/papers IMAGES="cifar.png mnist.png"    docs/papers.md
#
# and the documentation as a site, in site/:
#
#   make site
#
# and a wheel and a source package, in dist/, tried in an environment of their own:
#
#   make wheel
#
# All make the environment first (.venv; some minutes, most of them for PyTorch) and use it again
# as long as it is up to date.
#
#   make demo VENV=~/envs/pixelzip PYTHON=python3.12     another place, another Python

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
BENCH_ARGS ?=
DATA ?= data
PAPERS_ARGS ?=
RUNS ?= runs/papers
IMAGES ?=

ENV := $(abspath $(VENV))
READY := $(ENV)/.pixelzip-ready

.PHONY: demo test lint types bench papers site wheel clean

demo: $(READY)
	$(ENV)/bin/python examples/demo.py

# A process for each core, and in each one thread: more would only wait for each other.
test: lint types
	OMP_NUM_THREADS=1 $(ENV)/bin/pytest -n auto --dist worksteal $(PYTEST_ARGS)

lint: $(READY)
	$(ENV)/bin/ruff check .
	$(ENV)/bin/ruff format --check .

bench: $(READY)
	$(ENV)/bin/python -m pixelzip.bench.page $(DATA) -o docs/benchmarks.md --readme README.md $(BENCH_ARGS)

site: $(READY)
	NO_MKDOCS_2_WARNING=1 $(ENV)/bin/mkdocs build

wheel: $(READY)
	rm -rf build dist
	$(ENV)/bin/python -m build
	$(ENV)/bin/python tests/smoke.py dist/*.whl

papers: $(READY)
	$(ENV)/bin/python -m pixelzip.bench.papers $(RUNS) $(addprefix --images ,$(IMAGES)) -o docs/papers.md $(PAPERS_ARGS)

# From a folder without a `pixelzip` in it, so that mypy checks the installed package, which has
# codec, models and bench inside.
types: $(READY)
	cd tests && $(ENV)/bin/mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache -p pixelzip

# A strict editable install is a tree of links, one for each file that there was, so a new file (it
# touches its folder) calls for another one, and so do the C sources.
# (`bench/` and not `bench`, which is a target of its own.)
$(READY): pyproject.toml bench/ \
		pixelzip pixelzip/commands pixelzip/fleet \
		codec codec/jpeg codec/loops codec/origins \
		models models/freezing models/frozen models/gpu models/networks models/programs \
		models/training models/zoo models/zoo/retired \
		$(wildcard codec/csrc/* models/frozen/csrc/*)
	rm -rf build  # an install over an older tree leaves copies where links belong
	rm -f codec/*.so models/frozen/*.so  # nor does it see that only compilers' flags have changed
	test -x $(ENV)/bin/python || $(PYTHON) -m venv $(ENV)
	$(ENV)/bin/python -m pip install --quiet --disable-pip-version-check "setuptools>=77"
	$(ENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation \
		--config-settings editable_mode=strict --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv build dist site demo-output .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f codec/*.so models/frozen/*.so
