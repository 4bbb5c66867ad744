"""Threads: that work is shared, and that a single piece of it is done here."""

from __future__ import annotations

from threading import Barrier, get_ident

from pixelzip.codec.workers import side_by_side


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
