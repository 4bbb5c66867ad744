"""Integer CDFs and the range coder, held to oracles in plain Python integers."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import accumulate, pairwise
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelzip.codec import cdf, coder, native
from pixelzip.codec.errors import FormatError
from pixelzip.codec.loops import frequencies as loops
from pixelzip.models.networks import mixture

TOTAL = 1 << 24
ALL_VALUES = np.arange(256, dtype=np.uint8)

# --- The oracle: the definition of the module's docstring, one number at a time ------------------


def exponential(x: Fraction) -> Fraction:
    """exp(x) to about 190 bits, by its series in integers."""
    bits = 200
    term = total = 1 << bits
    n = 0
    while term:
        n += 1
        term = term * abs(x).numerator // (abs(x).denominator * n)
        total += term
    positive = Fraction(total, 1 << bits)
    return positive if x >= 0 else 1 / positive


@cache
def exp_entry(below: int) -> int:
    """exp of a logit's distance to the largest one, with 20 bits behind the point."""
    return round(exponential(Fraction(-below, 256)) * 2**20)


@cache
def inverse_scale(log_scale: int) -> int:
    return round(exponential(Fraction(-log_scale, 32)) * 2**20)


@cache
def sigmoid_entry(step: int) -> int:
    return round(2**22 / (1 + exponential(Fraction(-step, 64))))


def oracle_weights(logits: list[int]) -> list[int]:
    top = logits.index(max(logits))
    raw = [exp_entry(max(logits) - x) if max(logits) - x <= 12 * 256 else 0 for x in logits]
    weights = [(r * 2**14) // sum(raw) for r in raw]
    weights[top] += 2**14 - sum(weights)
    return weights


def oracle_sums(logits: list[int]) -> list[int]:
    """C of a softmax at the 257 edges."""
    distances = [max(logits) - x for x in logits]
    return [0, *accumulate(exp_entry(d) if d <= 12 * 256 else 0 for d in distances)]


def oracle_cdf(parameters: NDArray[np.int32]) -> list[int]:
    """C at the 257 edges."""
    logits, means, log_scales = parameters.tolist()
    edges = [0] * 257
    weights = oracle_weights(logits)
    for weight, mean, log_scale in zip(weights, means, log_scales, strict=True):
        mean = max(-(2**18), min(2**18, mean))
        inverse = inverse_scale(max(-128, min(160, log_scale)))
        for edge in range(1, 256):
            # 8 and 20 bits behind the point; the argument keeps 14, and its table has 6 of them.
            z = (256 * edge - 128 - mean) * inverse // 2 ** (8 + 20 - 14)
            step, fraction = divmod(max(-16 * 2**14, min(16 * 2**14, z)), 256)
            value = sigmoid_entry(step)
            if fraction:
                value += (sigmoid_entry(step + 1) - value) * fraction // 256
            edges[edge] += weight * value
    edges[256] = 2**36
    return edges


def oracle_frequencies(edges: list[int]) -> tuple[list[int], list[list[int]]]:
    """Of the 16 high nibbles, and of the low nibbles after each of them."""
    spread = TOTAL - 18
    high = [edges[i] * spread // edges[256] for i in range(0, 257, 16)]
    lows = []
    for nibble in range(16):
        part = edges[16 * nibble : 16 * nibble + 17]
        span = part[16] - part[0]
        if span:
            low = [(c - part[0]) * spread // span for c in part]
        else:
            low = [i * spread // 16 for i in range(17)]
        lows.append([b - a + 1 for a, b in pairwise(low)])
    return [b - a + 1 for a, b in pairwise(high)], lows


class OracleEncoder:
    """A range coder of 32-bit words in unbounded integers: what constriction's has to give."""

    def __init__(self) -> None:
        self.lower, self.width, self.words = 0, 2**64 - 1, 0

    def encode(self, below: int, frequency: int) -> None:
        unit = self.width >> 24
        self.lower += unit * below
        self.width = unit * frequency
        if self.width < 2**32:
            self.lower, self.width = self.lower << 32, self.width << 32
            self.words += 1

    def payload(self) -> bytes:
        """The shortest string, read as a fraction, inside the final interval."""
        size = 8 + 4 * self.words
        for bits in range(8 * size, -1, -8):
            end = -(-self.lower >> bits) << bits
            if end < self.lower + self.width:
                return end.to_bytes(size, "big").rstrip(b"\0")
        raise AssertionError


# --- Parameters: likely ones, and the most extreme -----------------------------------------------

int32 = st.integers(-(2**31), 2**31 - 1)
logits = st.one_of(
    st.integers(-2000, 2000), int32, st.sampled_from([-(2**31), 2**31 - 1, 3072, 3073, -3073, 0])
)
means = st.one_of(
    st.integers(-2000, 70000),
    int32,
    st.sampled_from([-(2**31), 2**31 - 1, -(2**18), 2**18, 127, 128, 65408]),
)
log_scales = st.one_of(
    st.integers(-140, 170), int32, st.sampled_from([-(2**31), 2**31 - 1, -128, -129, 160, 161])
)


@st.composite
def mixtures(draw: st.DrawFn) -> NDArray[np.int32]:
    """(1, 3, K)"""
    k = draw(st.integers(1, 6))
    rows = [
        draw(st.lists(numbers, min_size=k, max_size=k)) for numbers in (logits, means, log_scales)
    ]
    return np.array([rows], np.int32)


def likely(n: int, components: int, seed: int) -> NDArray[np.int32]:
    """Parameters such as a network gives, (n, 3, components)."""
    rng = np.random.default_rng(seed)
    out = np.empty((n, 3, components), np.int32)
    out[:, 0] = rng.normal(0, 500, (n, components))
    out[:, 1] = rng.uniform(0, 65280, (n, 1)) + rng.normal(0, 1500, (n, components))
    out[:, 2] = rng.normal(30, 40, (n, components))
    return out


def drawn(parameters: NDArray[np.int32], seed: int) -> NDArray[np.uint8]:
    """(n,) values that follow the conditionals, nearly."""
    rng = np.random.default_rng(seed)
    logits, means, log_scales = parameters.transpose(1, 0, 2)
    shares = np.exp((logits - logits.max(1, keepdims=True)) / 256)
    chosen = (shares.cumsum(1) < rng.random((len(shares), 1)) * shares.sum(1)[:, None]).sum(1)
    at = np.arange(len(parameters)), chosen
    noise = rng.logistic(size=len(parameters)) * np.exp(log_scales[at] / 32)
    return np.clip(np.rint(means[at] / 256 + noise), 0, 255).astype(np.uint8)


@st.composite
def softmaxes(draw: st.DrawFn) -> NDArray[np.int32]:
    """(1, 256)"""
    some = draw(st.lists(logits, min_size=1, max_size=256))
    row = np.resize(np.array(some, np.int64), 256)
    if draw(st.booleans()):
        row = np.random.default_rng(len(some)).permutation(row)
    return row[None].astype(np.int32)


NARROW = [[0], [128 * 256], [-(2**31)]]
FAR_BELOW = [[0, 0], [-(2**31), -(2**31)], [-128, 160]]
FAR_ABOVE = [[2**31 - 1, -(2**31)], [2**31 - 1, 0], [-128, -128]]
FLAT = [[5], [128 * 256], [2**31 - 1]]
HALVES = [[0, 0], [0, 255 * 256], [-128, -128]]


# --- Frequencies ---------------------------------------------------------------------------------


@settings(max_examples=60)
@given(mixtures())
@example(np.array([NARROW], np.int32))
@example(np.array([FAR_BELOW], np.int32))
@example(np.array([FAR_ABOVE], np.int32))
@example(np.array([FLAT], np.int32))
@example(np.array([HALVES], np.int32))
def test_tables_and_intervals_are_the_oracle_s(parameters: NDArray[np.int32]) -> None:
    check_frequencies(parameters, oracle_cdf(parameters[0]))


@settings(max_examples=40)
@given(softmaxes())
@example(np.zeros((1, 256), np.int32))  # the largest sums
@example(np.full((1, 256), -(2**31), np.int32))
@example(np.where(np.arange(256) == 255, 2**31 - 1, -(2**31))[None].astype(np.int32))
@example(np.where(np.arange(256) == 0, 3073, 0)[None].astype(np.int32))
def test_tables_and_intervals_of_logits_are_the_oracle_s(logits: NDArray[np.int32]) -> None:
    check_frequencies(logits, oracle_sums(logits[0].tolist()))


def check_frequencies(parameters: NDArray[np.int32], edges: list[int]) -> None:
    """That the tables and the intervals are those of a CDF with these 257 edges."""
    high, lows = oracle_frequencies(edges)
    # The encoder: the interval of each of the 256 values.
    scored = cdf.intervals(np.repeat(parameters, 256, 0), ALL_VALUES).astype(np.int64) + 1
    assert scored.shape == (256, 2, 3)
    assert (scored >= 1).all()
    assert (scored.sum(-1) == TOTAL).all()
    # The decoder: a table of the high nibbles, and of the low ones after each of them.
    high_table = cdf.high_table(parameters).astype(np.int64) + 1
    each = np.arange(16, dtype=np.int32)
    low_tables = cdf.low_table(np.repeat(parameters, 16, 0), each).astype(np.int64) + 1
    assert high_table[0].tolist() == [1, *high, 1]
    assert low_tables.tolist() == [[1, *low, 1] for low in lows]
    assert min(high) >= 1
    assert min(map(min, lows)) >= 1
    assert high_table.sum() == TOTAL
    assert (low_tables.sum(1) == TOTAL).all()
    for value in range(256):
        nibble, low = divmod(value, 16)
        assert scored[value, 0, :2].tolist() == [1 + sum(high[:nibble]), high[nibble]]
        assert scored[value, 1, :2].tolist() == [1 + sum(lows[nibble][:low]), lows[nibble][low]]


def test_the_coder_s_floats_hold_the_integers() -> None:
    """Frequencies travel as float32, which holds each integer up to 2^24 and no more."""
    sharp = np.array([NARROW], np.int32)
    table = cdf.high_table(sharp)
    assert table.dtype == np.float32
    assert table.max() + 1 > TOTAL - 100  # nearly all of the mass, and still exact
    assert int(table.astype(np.float64).sum()) == TOTAL - 18


def test_a_row_depends_on_nothing_but_itself() -> None:
    parameters = likely(64, 5, 0)
    values = np.arange(64, dtype=np.uint8) * 4
    together = cdf.intervals(parameters, values)
    tables = cdf.high_table(parameters), cdf.low_table(parameters, (values >> 4).astype(np.int32))
    for i in range(64):
        alone = parameters[i : i + 1]
        np.testing.assert_array_equal(cdf.intervals(alone, values[i : i + 1])[0], together[i])
        np.testing.assert_array_equal(cdf.high_table(alone)[0], tables[0][i])
        high = (values[i : i + 1] >> 4).astype(np.int32)
        np.testing.assert_array_equal(cdf.low_table(alone, high)[0], tables[1][i])
    # A view with holes, as the encoder passes it, is read as what it shows.
    wide = np.zeros((64, 3, 3, 5), np.int32)
    wide[:, 1] = parameters
    np.testing.assert_array_equal(cdf.intervals(wide[:, 1], values), together)
    flat = np.random.default_rng(0).normal(0, 500, (64, 3, 256)).astype(np.int32)
    together = cdf.intervals(flat[:, 1], values)
    for i in range(64):
        scored = cdf.intervals(flat[i : i + 1, 1].copy(), values[i : i + 1])
        np.testing.assert_array_equal(scored[0], together[i])


def test_tables_are_the_functions_that_they_stand_for() -> None:
    assert cdf.EXP.tolist() == [exp_entry(i) for i in range(12 * 256 + 1)]
    assert cdf.INVERSE_SCALE.tolist() == [inverse_scale(s) for s in range(-128, 161)]
    assert cdf.SIGMOID.tolist() == [sigmoid_entry(s) for s in range(-1024, 1025)]
    assert (np.diff(cdf.SIGMOID) >= 0).all()


def test_frequencies_cost_what_the_training_loss_says() -> None:
    """The integers spend the same bits as the float mixture that a network is trained with."""
    parameters = likely(3000, 5, 1)
    values = drawn(parameters, 2)
    spent = cdf.ideal_bits(cdf.intervals(parameters, values))
    logits, means, log_scales = torch.from_numpy(parameters).double().unbind(1)
    log_likelihood = mixture.log_likelihood(
        torch.from_numpy(values).double(), logits / 256, means / 256, log_scales / 32
    )
    theoretical = -float(log_likelihood.sum()) / np.log(2)
    assert spent == pytest.approx(theoretical, rel=5e-4)


def test_logits_cost_what_the_training_loss_says() -> None:
    """The integers spend the same bits as the float softmax that a network is trained with."""
    rng = np.random.default_rng(3)
    centre, width = rng.integers(0, 256, (3000, 1)), np.exp(rng.uniform(-1, 4, (3000, 1)))
    smooth = -256 * abs(np.arange(256) - centre) / width + rng.normal(0, 100, (3000, 256))
    parameters = np.rint(smooth).astype(np.int32)
    log_p = torch.log_softmax(torch.from_numpy(parameters).double() / 256, 1)
    values = torch.multinomial(log_p.exp(), 1, generator=torch.Generator().manual_seed(0))
    spent = cdf.ideal_bits(cdf.intervals(parameters, values[:, 0].numpy().astype(np.uint8)))
    theoretical = -float(log_p.gather(1, values).sum()) / np.log(2)
    assert spent == pytest.approx(theoretical, rel=5e-4)
    # Each value by itself: within the rounding of the table, of the frequencies and of the guards.
    every = [cdf.symbol_bits(cdf.intervals(parameters[:50], np.full(50, v, np.uint8))).sum(1)
             for v in range(256)]  # fmt: skip
    found, wanted = 0.5 ** np.stack(every, 1), log_p[:50].exp().numpy()
    np.testing.assert_allclose(found, wanted, rtol=2e-2, atol=2e-4)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_ideal_bits_are_the_logarithms_of_the_frequencies() -> None:
    scored = np.array([[[0, 2**23 - 1, 0], [0, 2**22 - 1, 0]], [[0, 0, 0], [0, 2**24 - 1, 0]]])
    assert cdf.ideal_bits(scored.astype(np.float32)) == pytest.approx(1 + 2 + 24 + 0)


# --- The coder -----------------------------------------------------------------------------------


def coded(parameters: NDArray[np.int32], values: NDArray[np.uint8]) -> tuple[bytes, float]:
    """The payload of these values in order, and its theoretical length in bits."""
    scored = cdf.intervals(parameters, values)
    return coder.encode(scored.reshape(-1, 3)), cdf.ideal_bits(scored)


def decoded(payload: bytes, parameters: NDArray[np.int32], group: int = 1) -> NDArray[np.uint8]:
    """Value by value, or ``group`` high nibbles and then as many low ones, as fronts do."""
    decoder = coder.Decoder(payload)
    values = []
    for start in range(0, len(parameters), group):
        part = parameters[start : start + group]
        high = decoder.decode(cdf.high_table(part))
        low = decoder.decode(cdf.low_table(part, high))
        values.append(16 * high + low)
    decoder.finish()
    return np.concatenate(values).astype(np.uint8)


def oracle_payload(parameters: NDArray[np.int32], values: NDArray[np.uint8]) -> bytes:
    encoder = OracleEncoder()
    for p, value in zip(parameters, values.tolist(), strict=True):
        high, lows = oracle_frequencies(oracle_cdf(p))
        nibble, low = divmod(value, 16)
        encoder.encode(1 + sum(high[:nibble]), high[nibble])
        encoder.encode(1 + sum(lows[nibble][:low]), lows[nibble][low])
    return encoder.payload()


def _mixture(weights: list[int], means: list[int], sharpness: list[int]) -> NDArray[np.int32]:
    return np.array([[weights, means, sharpness]], np.int32)


@settings(max_examples=40)
@given(st.lists(st.tuples(mixtures(), st.integers(0, 255)), min_size=1, max_size=12))
@example(  # with b"\1" behind it, this one's payload is another message's
    [
        (_mixture([2483, 0, 0, 0], [30499, 0, 0, 0], [276984, 0, 10, -(2**31)]), 154),
        (_mixture([0, 2203, 0], [0, -262144, 0], [0, 160, 0]), 64),
        (_mixture([0], [-1454], [134]), 118),
        (_mixture([0, -2483], [256, 0], [151, 0]), 192),
        (_mixture([0], [0], [0]), 124),
    ]
)
def test_any_message_comes_back(message: list[tuple[NDArray[np.int32], int]]) -> None:
    k = max(p.shape[2] for p, _ in message)
    parameters = np.full((len(message), 3, k), -(2**31), np.int32)  # of little weight, or none
    for i, (p, _) in enumerate(message):
        parameters[i, :, : p.shape[2]] = p[0]
    values = np.array([value for _, value in message], np.uint8)
    payload, bits = coded(parameters, values)
    np.testing.assert_array_equal(decoded(payload, parameters), values)
    assert len(payload) <= bits / 8 + 2
    assert not payload.endswith(b"\0")
    assert payload == oracle_payload(parameters, values)
    for more in (b"\1", b"\xff" * 7, bytes(20) + b"\1"):
        # Longer, it is damaged or the one payload of another message: never of the same.
        try:
            other = decoded(payload + more, parameters)
        except FormatError:
            continue
        assert not np.array_equal(other, values)
        assert coded(parameters, other)[0] == payload + more


@settings(max_examples=40)
@given(mixtures(), st.integers(0, 255), st.binary(max_size=9))
def test_a_message_has_one_payload(parameters: NDArray[np.int32], value: int, other: bytes) -> None:
    values = np.array([value], np.uint8)
    payload, _ = coded(parameters, values)
    for wrong in (other, payload[:-1] + other, payload + other):
        try:
            found = decoded(wrong, parameters)
        except FormatError:
            continue
        assert coded(parameters, found)[0] == wrong


def test_long_messages_cost_at_most_two_bytes_more_than_theory() -> None:
    for seed, n in enumerate((1, 2, 3, 5, 8, 13, 50, 400, 3000)):
        parameters = likely(n, 5, seed)
        values = drawn(parameters, seed) if n < 3000 else np.full(n, 7, np.uint8)
        payload, bits = coded(parameters, values)
        assert len(payload) <= bits / 8 + 2
        assert len(payload) >= bits / 8 - 1e-3 * n - 2
        np.testing.assert_array_equal(decoded(payload, parameters), values)


def test_the_range_coder_is_the_textbook_s() -> None:
    """constriction uses our integers as they are: ordinary, certain and impossible symbols."""
    random = Random(5)
    for _ in range(300):
        encoder, scored = OracleEncoder(), []
        for _ in range(random.randrange(1, 60)):
            kind = random.random()
            if kind < 0.2:  # at the upper end, where carries come from
                below, frequency = TOTAL - 2, 1
            elif kind < 0.4:
                below, frequency = 1, TOTAL - 2
            else:
                below = random.randrange(1, TOTAL - 1)
                frequency = random.randrange(1, TOTAL - below)
            encoder.encode(below, frequency)
            scored.append([below - 1, frequency - 1, TOTAL - below - frequency - 1])
        assert coder.encode(np.array(scored, np.float32)) == encoder.payload()


def test_carries_at_the_end_of_a_payload() -> None:
    """Intervals about a whole number of words: their last bytes may carry far back."""
    random = Random(6)
    close = 0
    for _ in range(500):
        encoder, scored = OracleEncoder(), []
        # The interval keeps one half inside it, as close to its lower end as it can be.
        for _ in range(random.randrange(1, 30)):
            half = 1 << (63 + 32 * encoder.words)
            below = (half - encoder.lower - 1) // (encoder.width >> 24)
            if not 1 <= below < TOTAL - 3:
                break
            frequency = min(TOTAL - 1 - below, 2 ** random.randrange(1, 24))
            encoder.encode(below, frequency)
            scored.append([below - 1, frequency - 1, TOTAL - below - frequency - 1])
        half = 1 << (63 + 32 * encoder.words)
        assert encoder.lower < half < encoder.lower + encoder.width
        close += encoder.words > 0 and half - encoder.lower < 2**32
        payload = coder.encode(np.array(scored, np.float32))
        decoder = coder.Decoder(payload)
        # Symbol 1 of three is what a table of nibbles calls 0.
        assert all(decoder.decode(np.array([row], np.float32))[0] == 0 for row in scored)
        decoder.finish()
        assert payload == encoder.payload() == b"\x80"
    assert close > 20


# --- Our own reading of the coder, compiled and in loops, against constriction's ------------------


@pytest.fixture(params=["compiled", "loops"])
def ours(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of our two implementations the codec takes."""
    assert native.coding() is not None
    if request.param == "loops":
        monkeypatch.setattr(native, "coding", lambda: None)
    return request.param


def frequencies(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """(n, 18) tables, less one: flat, steep, and with everything on one nibble."""
    shape = rng.dirichlet(np.full(16, 10.0 ** rng.uniform(-3, 2)), n)
    table = np.zeros((n, cdf.SYMBOLS), np.int64)
    table[:, 1:17] = np.floor(shape * (2**24 - 18)).astype(np.int64)
    table[np.arange(n), rng.integers(1, 17, n)] += 2**24 - 18 - table.sum(1)
    return table.astype(np.float32)


def test_our_coder_is_constriction_s_on_millions_of_nibbles(ours: str) -> None:
    model = coder.constriction.stream.model.Categorical(perfect=False)
    rng = np.random.default_rng(0)
    total = 0
    for n in (1, 2, 3, 10, 100, 1000, *[20_000] * 5, 1_000_000):
        table = frequencies(rng, n)
        if n == 1000:
            table[:] = 0  # nibbles that cost 24 bits each, and ones that cost none
            table[:, 7] = 2**24 - 18
        ends = np.cumsum(table.astype(np.int64) + 1, axis=1)
        quantiles = rng.integers(1, 2**24 - 1, n)
        nibbles = (ends <= quantiles[:, None]).sum(1) - 1
        if n == 1000:
            nibbles[::3] = rng.integers(0, 16, len(nibbles[::3]))
        rows = np.arange(n)
        below = np.where(nibbles > 0, ends[rows, nibbles], 1)
        size = ends[rows, nibbles + 1] - below
        intervals = np.stack([below - 1, size - 1, 2**24 - below - size - 1], 1).astype(np.float32)
        assert coder.encoded(intervals) == coder.encoded_by_constriction(intervals)
        payload = coder.encode(intervals)
        np.testing.assert_array_equal(coder.Decoder(payload).decode(table), nibbles)
        padded = payload + bytes(8 + -len(payload) % 4)
        theirs = coder.constriction.stream.queue.RangeDecoder(
            np.frombuffer(padded, ">u4").astype(np.uint32)
        )
        np.testing.assert_array_equal(theirs.decode(model, table) - 1, nibbles)
        total += n
    assert total > 1_000_000


def test_our_decoder_refuses_what_constriction_refuses(ours: str) -> None:
    model = coder.constriction.stream.model.Categorical(perfect=False)
    rng = np.random.default_rng(1)
    refused = 0
    for i in range(300):
        table = frequencies(rng, 40)
        payload = rng.bytes(int(rng.integers(0, 60))).rstrip(b"\0")
        if i % 3 == 0:
            payload = bytes([255] * int(rng.integers(1, 12))) + payload[:5].rstrip(b"\0")
        padded = payload + bytes(8 + -len(payload) % 4)
        theirs = coder.constriction.stream.queue.RangeDecoder(
            np.frombuffer(padded, ">u4").astype(np.uint32)
        )
        try:
            expected = theirs.decode(model, table) - 1
        except (AssertionError, ValueError):
            expected = np.array([-1])
        if expected.min() < 0 or expected.max() > 15:
            refused += 1
            with pytest.raises(FormatError):
                coder.Decoder(payload).decode(table)
        else:
            np.testing.assert_array_equal(coder.Decoder(payload).decode(table), expected)
    assert 20 < refused < 280


@settings(max_examples=40)
@given(mixtures(), st.integers(0, 2**32))
def test_loops_are_the_compiled_library(parameters: NDArray[np.int32], seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = len(parameters)
    values, high = rng.integers(0, 256, n, np.uint8), rng.integers(0, 16, n, np.int32)
    out = np.empty((n, 2, 3), np.float32)
    loops.mixture_intervals(parameters, values, out)
    np.testing.assert_array_equal(out, cdf.intervals(parameters, values))
    tables = np.empty((n, cdf.SYMBOLS), np.float32)
    loops.mixture_table(parameters, np.full(n, -1, np.int32), tables)
    np.testing.assert_array_equal(tables, cdf.high_table(parameters))
    loops.mixture_table(parameters, high, tables)
    np.testing.assert_array_equal(tables, cdf.low_table(parameters, high))


@settings(max_examples=40)
@given(softmaxes(), st.integers(0, 2**32))
def test_loops_of_logits_are_the_compiled_library(logits: NDArray[np.int32], seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = len(logits)
    values, high = rng.integers(0, 256, n, np.uint8), rng.integers(0, 16, n, np.int32)
    out = np.empty((n, 2, 3), np.float32)
    loops.softmax_intervals(logits, values, out)
    np.testing.assert_array_equal(out, cdf.intervals(logits, values))
    tables = np.empty((n, cdf.SYMBOLS), np.float32)
    loops.softmax_table(logits, np.zeros(n, np.int32), 16, tables)
    np.testing.assert_array_equal(tables, cdf.high_table(logits))
    loops.softmax_table(logits, 16 * high, 1, tables)
    np.testing.assert_array_equal(tables, cdf.low_table(logits, high))


def test_golden_payload() -> None:
    """The exact bytes of a fixed message: they are the format, and must never change."""
    n = 24
    i = np.arange(n)
    parameters = np.stack(
        [
            np.stack([i * 37 % 700, 300 - i * 11], 1),
            np.stack([i * 2600, 65000 - i * 2500], 1),
            np.stack([i * 5 - 60, i * 3], 1),
        ],
        1,
    ).astype(np.int32)
    values = (i * 10 + 3).astype(np.uint8)
    payload, _ = coded(parameters, values)
    assert payload.hex() == "3c8bf9c0ce36674162d91d9a8f63d6cf7c5870586230"
    np.testing.assert_array_equal(decoded(payload, parameters), values)


def test_golden_payload_of_logits() -> None:
    i, v = np.arange(24)[:, None], np.arange(256)
    logits = (-40 * abs(v - 11 * i) + 7 * (v * i % 31)).astype(np.int32)
    values = (i[:, 0] * 10 + 3).astype(np.uint8)
    payload, bits = coded(logits, values)
    assert payload.hex() == "6c5097621daeb30dc6e8beb01c23f4a880"
    assert len(payload) <= bits / 8 + 2
    np.testing.assert_array_equal(decoded(payload, logits), values)


def test_the_order_of_nibbles_is_the_caller_s() -> None:
    """A front is coded as all its high nibbles, then all its low ones, through one coder."""
    parameters = likely(40, 3, 9)
    values = drawn(parameters, 9)
    scored = cdf.intervals(parameters, values)  # (40, 2, 3)
    payload = coder.encode(scored.reshape(5, 8, 2, 3).transpose(0, 2, 1, 3).reshape(-1, 3))
    np.testing.assert_array_equal(decoded(payload, parameters, group=8), values)


def test_damage_gives_an_error_or_other_symbols() -> None:
    parameters = likely(120, 5, 3)
    payload, _ = coded(parameters, drawn(parameters, 3))
    random = Random(0)
    refused = other = 0
    for _ in range(600):
        damaged = bytearray(payload)
        match random.randrange(5):
            case 0:
                damaged = damaged[: random.randrange(len(payload))]
            case 1:
                damaged[random.randrange(len(payload))] ^= 1 << random.randrange(8)
            case 2:
                damaged = bytearray(random.randbytes(random.randrange(2 * len(payload))))
            case 3:
                at = random.randrange(len(payload))
                damaged[at : at + 9] = bytes([random.choice([0, 255])]) * 9
            case 4:
                damaged[:8] = random.choice([b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\xfe" * 2])
        try:
            values = decoded(bytes(damaged), parameters, group=random.choice([1, 7, 120]))
        except FormatError:
            refused += 1
        else:
            assert values.shape == (120,)
            other += bytes(damaged) != payload
    assert refused > 20
    assert other > 20


def test_random_bits_are_samples() -> None:
    """Nibbles come as often as their frequencies say, and a guard never."""
    parameters = likely(3, 5, 4)
    tables = np.repeat(cdf.high_table(parameters), 4000, 0)
    nibbles = coder.RandomBits([1, 2]).decode(tables).reshape(3, 4000)
    for row, table in zip(nibbles, cdf.high_table(parameters), strict=True):
        counts = np.bincount(row, minlength=16)
        share = (table[1:17] + 1) / TOTAL
        assert counts.shape == (16,)
        assert (abs(counts - 4000 * share) < 5 * np.sqrt(4000 * share) + 3).all()
    # Bits go from one call to the next, and each seed has its own.
    bits = coder.RandomBits([1, 2])
    parts = [bits.decode(tables[i : i + 3000]) for i in range(0, 12000, 3000)]
    np.testing.assert_array_equal(np.concatenate(parts), nibbles.reshape(-1))
    assert (coder.RandomBits([1, 3]).decode(tables) != nibbles.reshape(-1)).any()
    # The raw bits are numpy's promise; written down so that no version changes them unseen.
    flat = np.full((12, 18), TOTAL // 18 - 1, np.float32)
    assert coder.RandomBits([0, 0]).decode(flat).tolist() == [
        10,
        3,
        0,
        0,
        13,
        15,
        9,
        12,
        8,
        15,
        13,
        0,
    ]
    only_guards = np.zeros((500, 18), np.float32)
    only_guards[:250, 0] = only_guards[250:, 17] = TOTAL - 18
    assert coder.RandomBits([0]).decode(only_guards).tolist() == [0] * 250 + [15] * 250


def test_a_payload_never_ends_in_a_zero() -> None:
    with pytest.raises(FormatError):
        coder.Decoder(b"\x12\x00")
    coder.Decoder(b"")  # the shortest there is
