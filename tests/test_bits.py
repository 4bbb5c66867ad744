"""The adaptive binary coder, held to an oracle in unbounded Python integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelzip.codec import bits, probabilities
from pixelzip.codec.cdf import SIGMOID
from pixelzip.codec.compiled import kernel
from pixelzip.codec.errors import FormatError
from pixelzip.codec.loops import bits as loops


@kernel
def fixed(coder, words, ones, message):  # type: ignore[no-untyped-def]
    """Bits with probabilities that are given."""
    for i in range(len(message)):
        message[i] = loops.code(coder, words, ones[i], message[i])


@kernel
def _adaptive(coder, words, contexts, weights, chosen, order, limit, mixed, message):  # type: ignore[no-untyped-def]
    before = 0
    for i in range(len(message)):
        chosen[0], chosen[1] = before & 1, 2 + before
        if mixed:
            bit = loops.code_mixed(coder, words, contexts, chosen, limit, weights, message[i])
        else:
            bit = loops.code_bit(coder, words, contexts, chosen[1], limit, message[i])
        message[i] = bit
        before = (2 * before + bit) & ((1 << order) - 1)


def adaptive(  # type: ignore[no-untyped-def]
    coder, words, order: int, limit: int, mixed: bool, message: NDArray[np.int64]
) -> None:
    """Bits in the context of the bit before, and mixed with that of the ``order`` bits before."""
    contexts, weights = loops.fresh(2 + (1 << order)), loops.mixer(1, 2)[0]
    chosen = np.zeros(2, np.int64)
    _adaptive(coder, words, contexts, weights, chosen, order, limit, mixed, message)


def encoded(message: NDArray[np.int64], order: int, limit: int, mixed: bool) -> bytes:
    return bits.encode(lambda *to: adaptive(*to, order, limit, mixed, message.copy()), 4)


def decoded(data: bytes, count: int, order: int, limit: int, mixed: bool) -> NDArray[np.int64]:
    out = np.full(count, 7)  # which is not looked at
    adaptive(*bits.decoder(data), order, limit, mixed, out)
    return out


# --- The oracle ----------------------------------------------------------------------------------


class Context:
    def __init__(self) -> None:
        self.probability, self.seen = 2**39, 0

    def learn(self, bit: int, limit: int) -> None:
        self.probability += 2 * (bit * 2**40 - self.probability) // (2 * self.seen + 3)
        self.seen = min(self.seen + 1, limit)

    @property
    def logit(self) -> int:
        return int(probabilities.LOGIT[min(self.probability >> 28, 4095)])


def oracle_bits(message: list[int], order: int, limit: int, mixed: bool) -> list[tuple[int, int]]:
    """Each bit with the 20-bit probability of a one that it is coded with."""
    contexts: dict[tuple[int, int], Context] = {}
    weights = [3 * 2**16 // 5] * 2
    out, before = [], 0
    for bit in message:
        here = [contexts.setdefault(key, Context()) for key in ((0, before & 1), (1, before))]
        if mixed:
            total = sum(w * c.logit for w, c in zip(weights, here, strict=True)) >> 16
            at, part = divmod(max(-(2**18), min(2**18, total)) + 2**18, 256)
            low, high = int(SIGMOID[at]), int(SIGMOID[min(at + 1, 2048)])
            believed = low + (high - low) * part // 256
            one = believed >> 2
            surprise = bit * 2**22 - believed
            weights = [w + (surprise * c.logit >> 28) for w, c in zip(weights, here, strict=True)]
        else:
            here = here[1:]
            one = here[0].probability >> 20
        out.append((min(max(one, 1), 2**20 - 1), bit))
        for context in here:
            context.learn(bit, limit)
        before = (2 * before + bit) % 2**order
    return out


def oracle_data(coded: list[tuple[int, int]]) -> bytes:
    lower, width, size = 0, 2**64 - 1, 8
    for one, bit in coded:
        bound = (width >> 20) * (2**20 - one)
        if bit:
            lower, width = lower + bound, width - bound
        else:
            width = bound
        if width < 2**32:
            lower, width, size = lower << 32, width << 32, size + 4
    for left_out in range(size, -1, -1):
        end = -(-lower >> 8 * left_out) << 8 * left_out
        if end < lower + width:
            return end.to_bytes(size, "big").rstrip(b"\0")
    raise AssertionError


# --- Tests ---------------------------------------------------------------------------------------

messages = st.one_of(
    st.lists(st.integers(0, 1), max_size=300),
    st.tuples(st.integers(0, 1), st.integers(0, 3000)).map(lambda run: [run[0]] * run[1]),
)


@settings(max_examples=60)
@given(messages, st.integers(1, 4), st.sampled_from([0, 3, 255, 65535]), st.booleans())
def test_any_message_comes_back_and_is_the_oracle_s(
    message: list[int], order: int, limit: int, mixed: bool
) -> None:
    data = encoded(np.array(message, np.int64), order, limit, mixed)
    assert data == oracle_data(oracle_bits(message, order, limit, mixed))
    assert decoded(data, len(message), order, limit, mixed).tolist() == message


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(1, 2**20 - 1), st.sampled_from([1, 2**20 - 1, 2**19])),
            st.integers(0, 1),
        ),
        max_size=400,
    )
)
def test_any_probabilities_do(coded: list[tuple[int, int]]) -> None:
    ones, message = np.array(coded, np.int64).reshape(-1, 2).T
    data = bits.encode(lambda *to: fixed(*to, ones, message.copy()))
    assert data == oracle_data(coded)
    out = np.zeros(len(message), np.int64)
    fixed(*bits.decoder(data), ones, out)
    np.testing.assert_array_equal(out, message)


def test_a_carry_goes_through_many_words() -> None:
    """After bits that leave the lower end at ff ff ff ..., one that pushes it over."""
    message = [0] * 63 + [1] * 500 + [0]
    coded = [(1, 0)] * 40
    for bit in message:
        coded.append((2**19, bit))
    ones, said = np.array(coded, np.int64).T
    data = bits.encode(lambda *to: fixed(*to, ones, said.copy()), 4)
    assert data == oracle_data(coded)


@settings(max_examples=60)
@given(st.binary(max_size=60), st.booleans())
def test_any_data_decodes_to_something(data: bytes, mixed: bool) -> None:
    if data.endswith(b"\0") or data.startswith(b"\xff" * 8):
        with pytest.raises(FormatError):
            bits.decoder(data)
        return
    out = decoded(data, 500, 3, 255, mixed)
    assert set(out.tolist()) <= {0, 1}


def test_what_is_rare_costs_what_it_should() -> None:
    rng = np.random.default_rng(0)
    message = (rng.random(200_000) < 0.001).astype(np.int64)
    share = message.mean()
    entropy = -(share * np.log2(share) + (1 - share) * np.log2(1 - share)) * len(message) / 8
    data = bits.encode(lambda *to: adaptive(*to, 0, 65535, False, message.copy()))
    assert entropy * 0.99 < len(data) < entropy * 1.03
    nothing = np.zeros(1_000_000, np.int64)
    assert bits.encode(lambda *to: adaptive(*to, 0, 65535, False, nothing)) == b""
    nothing[0] = 1
    assert len(bits.encode(lambda *to: adaptive(*to, 0, 65535, False, nothing))) <= 4


def test_mixing_gains_from_two_contexts() -> None:
    """A bit that is mostly the exclusive or of the two before: one bit of context says nothing."""
    rng = np.random.default_rng(1)
    message = [0, 1]
    for noise in (rng.random(20_000) < 0.05).astype(int).tolist():
        message.append(message[-1] ^ message[-2] ^ noise)
    said = np.array(message)
    mixed = len(encoded(said, 2, 255, True))
    assert mixed < len(encoded(said, 1, 255, False)) * 0.35
    assert mixed < len(encoded(said, 2, 255, False)) * 1.05


@settings(max_examples=40)
@given(st.lists(st.booleans(), max_size=400))
def test_any_flags_come_back(flags: list[bool]) -> None:
    data = bits.encode_flags(np.array(flags, np.bool_))
    assert bits.decode_flags(data, len(flags)).tolist() == flags


def test_flags_in_a_pattern_are_short() -> None:
    pattern = np.arange(2000) % 9 % 2 == 0
    assert len(bits.encode_flags(pattern)) < 20
    assert bits.encode_flags(~pattern | pattern) != b""
    assert bits.encode_flags(pattern & ~pattern) == b""


# Data of these bits, in the contexts of `adaptive` with order 2 and limit 255: docs/format.md.
VECTOR = [int(b) for b in f"{0x5A7C0FFEE0DDF00D_00000001_FFFF0000:0128b}"]


@pytest.mark.parametrize(
    ("mixed", "wanted"),
    [(False, "748972cf0a47ec85b89bb054"), (True, "776a739942bd26dedcaa2cc8")],
)
def test_vectors(mixed: bool, wanted: str) -> None:
    assert encoded(np.array(VECTOR), 2, 255, mixed).hex() == wanted
