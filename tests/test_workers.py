"""Threads: that work is shared, also within work, and that a single piece of it is done here."""

from __future__ import annotations

import time
from threading import Barrier, Event, get_ident

import numpy as np
import pytest

from pixelzip.codec.workers import Map, shares, side_by_side


def test_several_pieces_are_done_side_by_side() -> None:
    meet = Barrier(2, timeout=10)

    def work(piece: int, other: int) -> tuple[int, int]:
        meet.wait()  # for the other piece
        return piece + other, get_ident()

    with side_by_side(2) as parallel:
        found = list(parallel(work, [1, 2], [10, 20]))
    assert [total for total, _ in found] == [11, 22]
    threads = {thread for _, thread in found}
    assert len(threads) == 2
    assert get_ident() in threads  # it does not sit and wait


def test_a_single_piece_is_done_here() -> None:
    with side_by_side(2) as parallel:
        assert list(parallel(lambda piece: (piece, get_ident()), [5])) == [(5, get_ident())]
        assert list(parallel(get_ident, [])) == []


def test_threads_without_work_take_part_in_what_others_ask_for() -> None:
    """Whichever of the two it is that asks, and though all of them are at work."""
    start, meet = Barrier(2, timeout=10), Barrier(2, timeout=10)

    def within(_: int) -> int:
        meet.wait()
        return get_ident()

    for asks in (0, 1):

        def work(piece: int, asks: int = asks) -> set[int]:
            start.wait()
            return set(parallel(within, [0, 1]) if piece == asks else ())

        with side_by_side(2) as parallel:
            found = list(parallel(work, [0, 1]))
        assert len(found[asks]) == 2


def test_who_asks_does_it_as_long_as_all_have_something_to_do() -> None:
    start, meet = Barrier(2, timeout=10), Barrier(2, timeout=10)

    def within(piece: int) -> int:
        if piece in (0, 9):
            meet.wait()  # until both have begun theirs, and come to their end
        return get_ident()

    with side_by_side(2) as parallel:

        def work(_: int) -> bool:
            start.wait()
            return set(parallel(within, range(10))) == {get_ident()}

        assert all(parallel(work, [0, 1]))


def count(parallel: Map, depth: int) -> int:
    """Leaves of a tree of calls."""
    return 1 if depth == 0 else sum(parallel(lambda _: count(parallel, depth - 1), range(3)))


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_calls_within_calls_come_to_an_end(threads: int) -> None:
    with side_by_side(threads) as parallel:
        assert count(parallel, 5) == 3**5


def test_an_error_comes_in_its_turn_and_ends_the_rest() -> None:
    begun: list[int] = []

    def work(piece: int) -> int:
        begun.append(piece)
        time.sleep(0.001)
        if piece == 3:
            raise ValueError("three")
        return piece

    with side_by_side(2) as parallel:
        found = parallel(work, range(1000))
        assert [next(found) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="three"):
            next(found)
    assert len(begun) < 100


def test_results_that_nobody_waits_for_are_not_made() -> None:
    begun: list[int] = []

    def work(piece: int) -> int:
        begun.append(piece)
        time.sleep(0.001)
        return piece

    with side_by_side(2) as parallel:
        assert any(parallel(work, range(1, 1000)))
    assert len(begun) < 100


def test_who_asks_for_threads_within_work_gets_the_same() -> None:
    def within(_: int) -> set[int]:
        with side_by_side(3) as parallel:
            return set(parallel(lambda _: time.sleep(0.001) or get_ident(), range(9)))

    with side_by_side(3) as parallel:
        assert len(set().union(*parallel(within, range(9)))) <= 3
    with side_by_side(2) as parallel:  # and other ones afterwards
        assert len(set().union(*parallel(within, range(9)))) <= 2


def test_work_that_nobody_waits_for_is_not_gone_on_with() -> None:
    """Not even with what has begun."""
    begun, ended = Barrier(2, timeout=10), []

    def within(piece: int) -> None:
        time.sleep(0.001)

    def work(piece: int) -> None:
        begun.wait()
        if piece == 0:
            raise ValueError("enough")
        for _ in range(100):
            list(parallel(within, range(10)))
        ended.append(piece)

    with pytest.raises(ValueError, match="enough"), side_by_side(2) as parallel:
        list(parallel(work, [0, 1]))
    assert not ended


def test_an_interrupt_does_not_wait() -> None:
    begun, end, ended = Barrier(2, timeout=10), Event(), Event()

    def work(piece: int) -> None:
        begun.wait()
        if piece == 0:
            raise KeyboardInterrupt
        end.wait(10)
        ended.set()

    with pytest.raises(KeyboardInterrupt), side_by_side(2) as parallel:
        list(parallel(work, [0, 1]))
    assert not ended.is_set()
    end.set()
    assert ended.wait(10)


def test_shares_are_all_of_it_and_not_small() -> None:
    for count, least in ((0, 5), (4, 5), (9, 5), (10, 5), (1000, 5), (11, 1)):
        items = np.arange(count)
        parts = shares(items, least)
        assert np.array_equal(np.concatenate(parts), items)
        assert len(parts) == 1 or min(map(len, parts)) >= least
