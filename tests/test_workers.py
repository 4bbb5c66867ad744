"""Threads: that work is shared, and that a single piece of it is done here."""

from __future__ import annotations

from threading import Barrier, get_ident

import numpy as np

from pixelzip.codec.workers import shares, side_by_side


def test_several_pieces_are_done_side_by_side() -> None:
    meet = Barrier(2, timeout=10)

    def work(piece: int, other: int) -> tuple[int, int]:
        meet.wait()  # for the other piece
        return piece + other, get_ident()

    with side_by_side(2) as parallel:
        found = list(parallel(work, [1, 2], [10, 20]))
    assert [total for total, _ in found] == [11, 22]
    assert get_ident() not in [thread for _, thread in found]


def test_a_single_piece_is_done_here() -> None:
    with side_by_side(2) as parallel:
        assert list(parallel(lambda piece: (piece, get_ident()), [5])) == [(5, get_ident())]
        assert list(parallel(get_ident, [])) == []


def test_what_threads_ask_for_they_do_themselves() -> None:
    """Else all of them might wait for work that nobody is left to do."""
    with side_by_side(2) as parallel:

        def work(piece: int) -> set[int]:
            return {get_ident(), *parallel(lambda _: get_ident(), [piece, piece])}

        assert [len(threads) for threads in parallel(work, [1, 2, 3])] == [1, 1, 1]


def test_shares_are_all_of_it_and_not_small() -> None:
    for count, least in ((0, 5), (4, 5), (9, 5), (10, 5), (1000, 5), (11, 1)):
        items = np.arange(count)
        parts = shares(items, least)
        assert np.array_equal(np.concatenate(parts), items)
        assert len(parts) == 1 or min(map(len, parts)) >= least
