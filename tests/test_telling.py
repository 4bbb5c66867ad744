"""What the codec says while it is at work: told as it comes, once, and only if it is wanted."""

from __future__ import annotations

import logging

import pytest

from pixelzip.fleet.crew import Outcome, Processes
from pixelzip.fleet.plan import Batch
from pixelzip.telling import Voice, telling


def say(batch: Batch) -> Outcome:
    logging.getLogger("pixelzip").info("this takes a while")
    return Outcome(batch)


def test_it_is_told_while_somebody_listens() -> None:
    told: list[str] = []
    say(())
    with telling(told.append):
        say(())
        assert told == ["this takes a while"]
    say(())
    with telling(None):
        say(())
    assert told == ["this takes a while"]


@pytest.mark.parametrize(("voice", "times"), [(True, 1), (False, 0)])
def test_of_several_processes_one_tells(
    voice: bool, times: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with Processes(say, 2, Voice() if voice else None) as crew:
        for _ in range(4):
            crew.submit(())
        done = 0
        while done < 4:
            done += len(crew.wait())
    assert capfd.readouterr().err == "note: this takes a while\n" * times
