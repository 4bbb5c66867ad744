"""What the encoder does before it codes: candidates are looked for, and clear losers dropped.

`survey` looks at each component (constant? grey? computed from something? of few colours?), and
`narrow_down` codes a sample of a large picture, and coefficients, in each way that was found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isqrt
from operator import call
from typing import Any

import numpy as np

from pixelzip.codec import colours, given, origins, transforms
from pixelzip.codec.candidates import (
    Candidate,
    Choice,
    CodedPlane,
    Way,
    allowed,
    is_constant,
    planes_of,
    told,
)
from pixelzip.codec.conditional import Conditional
from pixelzip.codec.container import area
from pixelzip.codec.origins.blocks import Blocks, render
from pixelzip.codec.origins.origin import Found, Origin
from pixelzip.codec.picture import MODES, Box, Picture, Plane, is_deep
from pixelzip.codec.transforms import Form, Transform
from pixelzip.codec.workers import Map

Networks = Mapping[str, Sequence[Conditional]]
"""The networks for each kind of plane: "colour", "luma", "chroma". Of several a sample of the plane
chooses one, the first if they are alike. A kind that is missing is stood in for by another that
codes such planes: luma by colour's, chroma by luma's. Those for "small", if there are some, take
the place of colour's in the smallest pictures."""

_STAND_INS = {"colour": ("colour",), "luma": ("luma", "colour"), "labels": ()} | {
    "chroma": ("chroma", "luma", "colour")
}

_FEW_CORRECTIONS, _FEW_BESIDES = 32, 8
"""So many pixels to a byte of corrections, or more, say that an origin is no accident; the second
where its chroma is halved, which saves far more than that byte."""

_TINY = 32 * 32
"""Pictures of at most so many pixels are for the network for small ones, if there is one."""
_SMALL = 64 * 64
"""Those of at most so many are small: they are coded in every way."""

_PATCH, _PATCHES = 64, 5
"""So many patches are a sample of a larger picture, of so many pixels a side."""
_PROBE, _APART, _FEWEST_PROBES = 16, 48, 2
"""A network is chosen by probes of so many pixels a side: one for so many of a square picture's
side, so that they grow more slowly than the picture, and at least so many."""
_FIRST_PROBES, _NEAR = 4, 1.01
"""Networks that take more than so many times the least in the first probes are in no others."""
_STEP = 0.7548776662466927, 0.5698402909980532
"""Down and across, in heights and widths: the powers of the x of x^3 = x + 1, turned upside down,
whose multiples, without their integers, are spread evenly however many they are."""
_SPOT, _HOPE = 32, 0.6
"""Of a tile the sample is four spots of so many pixels a side. If this part of what the network
takes by it is more than the fallback takes by its estimate, the network has no hope there."""
_CLEAR = 0.9
"""A larger picture is not coded in a way of which the sample takes more bytes, so that another one
takes less than this fraction of them ..."""
_HOPELESS = 0.7
"""... or than this one, by patches of half the side."""


def survey(
    pictures: Sequence[Picture],
    networks: Networks,
    with_origins: bool,
    parallel: Map,
) -> list[list[Choice]]:
    """Each picture's choices, one for each component, or each pair of high and low bytes."""
    todo = [(picture, carried) for picture in pictures for carried in _carried_together(picture)]
    choices = parallel(lambda one: _look(one[0], one[1], with_origins, parallel), todo)
    drafts: list[list[Choice]] = []
    for picture in pictures:
        drafts.append([next(choices) for _ in _carried_together(picture)])
    for picture, draft in zip(pictures, drafts, strict=True):
        for plane in planes_of(draft):
            if plane.whole.best is None and plane.blocks is None:
                plane.take(_suitable(networks, plane, _is_tiny(picture)))
    if with_origins:
        list(parallel(_restrict, [choice for draft in drafts for choice in draft]))
    return drafts


def _carried_together(picture: Picture) -> list[tuple[int, ...]]:
    """The components that an origin would carry together."""
    count = len(MODES[picture.mode])
    if is_deep(picture.mode):
        return [(high, high + count // 2) for high in range(count // 2)]
    return [(position,) for position in range(count)]


def _look(picture: Picture, carried: tuple[int, ...], with_origins: bool, parallel: Map) -> Choice:
    """The ways to store some components: as they are, or as what they were computed from."""
    if _is_small(picture):
        parallel = map  # to share it out takes longer
    tried: Sequence[Origin] = origins.ALL if with_origins else ()
    if not transforms.is_possible(picture.mode, carried[0], Transform.ORIGIN):
        tried = ()
    elif not is_deep(picture.mode) and transforms.is_grey(picture.planes[carried[0]]):
        tried = [origin for origin in tried if origin is origins.tone]
    ways: list[Callable[[], Choice]] = [lambda: [[_as_it_is(picture, p) for p in carried]]]
    ways += [partial(_computed, picture, carried, origin, parallel) for origin in tried]
    found = parallel(call, ways)
    choice: Choice = next(found)
    if all(plane.whole.best for one in choice[0] for plane in one.planes):
        return choice  # trivial
    return _unless_clear(choice + [way for some in found for way in some])


def _unless_clear(choice: Choice) -> Choice:
    """All ways, or those that can only be better: fewer samples of what is full of detail."""
    if not all(plane.whole.is_rich for one in choice[0] for plane in one.planes):
        return choice
    fewer = [
        way for way in choice if all(_has_fewer_samples(c) and _explains_holes(c) for c in way)
    ]
    return fewer or choice


def _as_it_is(picture: Picture, position: int) -> Candidate:
    """A component without an origin."""
    samples = picture.planes[position]
    if is_constant(samples):
        return Candidate(position, Form(Transform.CONSTANT, parameters=samples[0, 0].tobytes()))
    form = Form(Transform.GREY if transforms.is_grey(samples) else Transform.DIRECT)
    (layout,) = transforms.layouts(picture.mode, position, form, samples.shape[:2])
    plane = Plane(samples[:, :, : layout.channels], layout.kind)
    return Candidate(position, form, [CodedPlane(plane, [])])


def _computed(picture: Picture, carried: tuple[int, ...], origin: Origin, parallel: Map) -> Choice:
    """The ways to store components as what they may have been computed from."""
    parts = [picture.planes[position] for position in carried]
    deep = is_deep(picture.mode)
    found = origin.find(transforms.samples_of(*parts) if deep else parts[0], parallel)
    if found is None:
        return []
    form = Form(Transform.ORIGIN, origin.NUMBER, found.parameters)
    pixels = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
    layouts = [plane.layout for plane in found.planes]
    earlier = [given.earlier(layouts, number) for number in range(len(layouts))]

    def corrections(planes: Sequence[Plane]) -> bytes:
        made = [plane.samples for plane in planes]
        return transforms.corrections_of(
            pixels, transforms.render(picture.mode, form, made, pixels.shape[:2])
        )

    def store(blocks: Sequence[Blocks | None]) -> Way:
        planes = list(parallel(_rendered, found.planes, blocks))
        jobs: list[Callable[[], Any]] = [partial(corrections, planes)]
        for plane, own, before in zip(planes, blocks, earlier, strict=True):
            told, told_blocks = [planes[i] for i in before], [blocks[i] for i in before]
            jobs.append(partial(CodedPlane, plane, told, own, told_blocks))
        correction, *made = parallel(call, jobs)
        return [Candidate(carried[0], form, made, correction)]

    return list(parallel(store, _with_and_without_blocks(found)))


def _with_and_without_blocks(found: Found) -> list[Sequence[Blocks | None]]:
    """The coefficients that planes are stored as, if there are some; and none at all.

    Not so for a plane that is the picture itself: that needs no origin.
    """
    ways: list[Sequence[Blocks | None]] = []
    if any(found.blocks):
        from pixelzip.codec import coefficients  # slow to load, and few pictures need it

        ways.append(coefficients.with_usual_steps(found.blocks))
    if len(found.planes) > 1 or not any(found.blocks):
        ways.append([None] * len(found.planes))
    return ways


def _rendered(plane: Plane, blocks: Blocks | None) -> Plane:
    if blocks is None:
        return plane
    samples = render(blocks, (plane.layout.height, plane.layout.width))
    return replace(plane, samples=samples[:, :, None])


def _suitable(networks: Networks, plane: CodedPlane, tiny: bool) -> list[Conditional]:
    """The networks for a plane, or those that stand in for them."""
    kinds = _STAND_INS[plane.layout.kind]
    if tiny and plane.layout.kind == "colour":
        kinds = ("small", *kinds)
    for kind in kinds:
        suitable = [
            network
            for network in networks.get(kind, ())
            if network.codes(plane.layout.channels) and not (network.given and not plane.earlier)
        ]
        if suitable:
            return suitable
    return []


def _restrict(choice: Choice) -> None:
    """Add a way that leaves out the colours that do not occur, if that seems to be worth it."""
    if any(_explains_holes(candidate) for way in choice[1:] for candidate in way):
        return
    sparse = [_sparse(candidate) for candidate in choice[0]]
    if any(sparse):
        choice.append([one or other for one, other in zip(sparse, choice[0], strict=True)])


def _explains_holes(candidate: Candidate) -> bool:
    """Whether it gives nearly all pixels from luma and chroma, which make few of the colours."""
    chroma = any(plane.layout.kind == "chroma" for plane in candidate.planes)
    pixels = candidate.planes[0].whole.pixels.size  # those of the luma
    few = _FEW_BESIDES if _has_fewer_samples(candidate) else _FEW_CORRECTIONS
    return chroma and len(candidate.corrections) * few <= pixels


def _has_fewer_samples(candidate: Candidate) -> bool:
    """Whether its chroma is halved."""
    return any(plane.layout.step != (1, 1) for plane in candidate.planes)


def _sparse(candidate: Candidate) -> Candidate | None:
    """A component as it is but for the colours that do not occur; None if that is not worth it."""
    for plane in candidate.planes:
        if plane.network is not None and plane.layout.kind == "colour":
            pixels = plane.whole.pixels
            found = colours.find(pixels)
            if found is not None:
                sparse = plane.with_network(plane.network)
                sparse.colours = found
                return replace(candidate, planes=[sparse])
    return None


def _is_small(picture: Picture) -> bool:
    return picture.height * picture.width <= _SMALL


def _is_tiny(picture: Picture) -> bool:
    return picture.height * picture.width <= _TINY


# Narrowing down.


def narrow_down(pictures: Sequence[Picture], drafts: Sequence[list[Choice]], parallel: Map) -> None:
    """Code all coefficients, and drop the ways that they or a sample show to be out."""
    coded = [plane for draft in drafts for plane in planes_of(draft) if plane.blocks is not None]
    unclear = [
        (picture, choice)
        for picture, draft in zip(pictures, drafts, strict=True)
        for choice in draft
        if len(choice) > 1 and not _is_small(picture)
    ]
    # Coefficients mostly win by far, which less than a sample shows.
    likely = [one for one in unclear if _has_coefficients(one[1])]
    others = [one for one in unclear if not _has_coefficients(one[1])]
    rates: dict[int, float] = {}
    jobs: list[Callable[[], Any]] = [partial(plane.code_blocks, parallel) for plane in coded]
    jobs += _samples(likely, _PATCH // 2, rates) + _samples(others, _PATCH, rates)
    done = list(parallel(call, jobs))
    fits = {id(plane): fit for plane, fit in zip(coded, done[: len(coded)], strict=True)}
    for draft in drafts:
        for choice in draft:
            choice[:] = [
                way for way in choice if all(fits.get(id(p), True) for p in planes_of([[way]]))
            ]
    for _, choice in likely:
        _drop_hopeless(choice, rates)
    list(parallel(call, _samples([one for one in likely if len(one[1]) > 1], _PATCH, rates)))
    for _, choice in unclear:
        _drop_losers(choice, rates)


def _has_coefficients(choice: Choice) -> bool:
    return any(plane.blocks is not None for plane in planes_of([choice]))


def _samples(
    unclear: Sequence[tuple[Picture, Choice]], side: int, rates: dict[int, float]
) -> list[Callable[[], Any]]:
    """What puts the rates of planes, by their ids, into a mapping: by patches of that side."""

    def rate(plane: CodedPlane, boxes: Sequence[Box]) -> None:
        rates[id(plane)] = _rate(plane, boxes)

    return [
        partial(rate, plane, _patches(picture.height, picture.width, side))
        for picture, choice in unclear
        for plane in planes_of([choice])
        if plane.network is not None and plane.whole.best is None
    ]


def _drop_hopeless(choice: Choice, rates: Mapping[int, float]) -> None:
    """Drop the ways that are far from one that is settled, by rates that are not sure."""
    sizes = [[_expect(one, rates) for one in way] for way in choice]
    settled = [
        sum(most for _, most in size)
        for way, size in zip(choice, sizes, strict=True)
        if all(plane.whole.best for plane in planes_of([[way]]))
    ]
    choice[:] = [
        way
        for way, size in zip(choice, sizes, strict=True)
        if sum(least for least, _ in size) * _HOPELESS <= min(settled, default=np.inf)
    ]


def _drop_losers(choice: Choice, rates: Mapping[int, float]) -> None:
    """Keep the ways that may win, by their planes' rates."""
    if len(choice) > 1:
        sizes = [[_expect(one, rates) for one in way] for way in choice]
        mosts = [sum(most for _, most in way) for way in sizes]
        # Of ways that differ in their sets of colours only, the sample alone decides.
        alike: dict[tuple[Form, ...], float] = {}
        for way, most in zip(choice, mosts, strict=True):
            forms = _forms(way)
            alike[forms] = min(most, alike.get(forms, np.inf))
        choice[:] = [
            way
            for way, size, most in zip(choice, sizes, mosts, strict=True)
            if sum(least for least, _ in size) * _CLEAR <= min(mosts) and most == alike[_forms(way)]
        ]


def _forms(way: Way) -> tuple[Form, ...]:
    return tuple(candidate.form for candidate in way)


def _patches(height: int, width: int, side: int) -> list[Box]:
    """Patches spread over the picture, in each row and column of a grid one."""
    h, w, last = min(height, side), min(width, side), _PATCHES - 1
    return [
        ((height - h) * k // last, (width - w) * (2 * k % _PATCHES) // last, h, w)
        for k in range(_PATCHES)
    ]


def _expect(candidate: Candidate, rates: Mapping[int, float]) -> tuple[float, float]:
    """About the least and the most bytes that a candidate comes to, by its planes' rates."""
    least = most = float(len(candidate.corrections) + len(candidate.form.parameters))
    for plane in candidate.planes:
        whole = plane.whole
        if whole.best is not None:
            rate, fallback = whole.cost, whole.cost
        else:
            rate = plane.aside + rates.get(id(plane), np.inf)
            fallback = whole.floor
        least += min(rate, fallback)
        most += min(rate, whole.estimate or np.inf)
    return least, most


def _rate(plane: CodedPlane, boxes: Sequence[Box]) -> float:
    """The bytes that a plane would take if its network coded all of it as it codes a sample."""
    return _bytes_in(plane, [_place(box, plane) for box in boxes]) * plane.whole.pixels.size


def _bytes_in(plane: CodedPlane, places: Sequence[Box]) -> float:
    """The bytes for each sub-pixel that the plane's network takes in some places of it."""
    from pixelzip.codec import tiles  # slow to load, and not every file needs it

    assert plane.network is not None
    patches = [plane.whole.pixels[area(place)] for place in places]
    scores = tiles.score_tiles(
        plane.network,
        patches,
        given=told([(plane, place) for place in places]),
        colours=allowed([plane] * len(patches)),
    )
    bits = sum(float(score.sum(dtype=np.float64)) for score in scores)
    return bits / 8 / sum(patch.size for patch in patches)


def choose_networks(planes: Sequence[CodedPlane], parallel: Map) -> None:
    """Leave each plane one of its networks: that which codes a sample of it in the fewest bytes."""
    undecided = [plane for plane in planes if plane.rivals and plane.whole.best is None]
    list(parallel(partial(_choose_network, parallel=parallel), undecided))


def _choose_network(plane: CodedPlane, parallel: Map) -> None:
    assert plane.network is not None
    height, width, _ = plane.layout.shape
    count = max(_FEWEST_PROBES, isqrt(height * width) // _APART)
    probes = [_probe(height, width, number) for number in range(count)]
    tried = [plane.with_network(network) for network in (plane.network, *plane.rivals)]
    totals = np.zeros(len(tried))
    for boxes in probes[:_FIRST_PROBES], probes[_FIRST_PROBES:]:
        if boxes and len(tried) > 1:
            rates = parallel(partial(_bytes_in, places=boxes), tried)
            totals += len(boxes) * np.array(list(rates))
            near = np.flatnonzero(totals <= _NEAR * totals.min())
            tried, totals = [tried[number] for number in near], totals[near]
    best = tried[int(totals.argmin())].network
    assert best is not None
    plane.take([best])


def _probe(height: int, width: int, number: int) -> Box:
    """One of a sequence of patches, which soon are everywhere."""
    h, w = min(height, _PROBE), min(width, _PROBE)
    down, across = ((0.5 + number * step) % 1 for step in _STEP)
    return int((height - h + 1) * down), int((width - w + 1) * across), h, w


def leave_to_fallback(planes: Sequence[CodedPlane], parallel: Map) -> None:
    """Leave tiles to the fallback which it codes in far less than their networks, by a sample."""
    places = [
        (plane, tile, box)
        for plane in planes
        if plane.tiles
        for tile, box in plane.open()
        if tile.is_plain
    ]
    rates = parallel(lambda one: _bytes_in(one[0], _spots(one[2])), places)
    for (_, tile, _), rate in zip(places, rates, strict=True):
        tile.is_left = rate * tile.pixels.size * _HOPE > tile.estimate


def _spots(box: Box) -> list[Box]:
    """Four small patches, in each row and column of a tile one."""
    top, left, height, width = box
    h, w = min(height, _SPOT), min(width, _SPOT)
    down, across = height - h, width - w
    return [
        (top + down * k // 3, left + across * column // 3, h, w)
        for k, column in enumerate((1, 3, 0, 2))
    ]


def _place(box: Box, plane: CodedPlane) -> Box:
    """A part of the picture in a plane's own samples."""
    (down, right), (y, x) = plane.layout.step, plane.layout.phase
    top, left, height, width = box
    bottom = min(plane.layout.height, -(-(top + height) // down))
    end = min(plane.layout.width, -(-(left + width) // right))
    top, left = min((top + y) // down, bottom - 1), min((left + x) // right, end - 1)
    return top, left, bottom - top, end - left
