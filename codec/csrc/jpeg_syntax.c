/* The entropy-coded segments of a JPEG file: Huffman codes to coefficients, and back to the same
 * bytes. What pixelzip.codec.jpeg.syntax calls; docs/format.md, "JPEG files", specifies it.
 *
 * A *unit* is what JPEG calls an MCU: of a scan of one component a block, otherwise h x v blocks of
 * each component. A scan is read up to the first thing that the writer would write differently;
 * whoever calls keeps the bytes from there on. Nothing is read or written out of bounds, whatever
 * the bytes say: the caller sees to it that the components' blocks lie inside of the array. */

#include "export.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    FAST_BITS = 10,
    MOST_COMPONENTS = 4,
    TABLE_BYTES = 16 + 256, /* a table: how many codes of each length, the symbols */
    LONGEST_RUN = 0x7FFF,
    /* When libjpeg ends a run of ended blocks early: as many bits are waiting. */
    WAITING_BITS = 1000 - 64 + 1,
    /* What may fill the last byte of an interval, however many bits that takes. */
    ZEROS = 0,
    ONES = 0xFF,
};

/* What one scan is; int32 each, in this order. */
struct component {
    int32_t first, stride; /* its first block, and blocks from a row to the next */
    int32_t h, v;          /* blocks of a unit */
    int32_t dc, ac;        /* tables: 0 to 3, 4 to 7 */
};

struct scan {
    int32_t count, progressive, ss, se, ah, al, interval, across, down;
    struct component components[MOST_COMPONENTS];
};

/* Where the stream differs from what the writer does by itself. */
struct exception {
    uint32_t block; /* of the scan */
    uint32_t runs;  /* so many runs of 16 zeros before the end of the block; 0: a run of ended
                     * blocks ends here, or goes on here, against the rule */
};

/* --- Huffman tables ------------------------------------------------------------------------- */

struct code {
    uint16_t bits;
    uint8_t length; /* 0: there is none */
};

struct table {
    struct code codes[256];
    struct {
        uint8_t symbol, length;
    } fast[1 << FAST_BITS];
    int32_t end[17];   /* one after the last code of each length */
    int32_t delta[17]; /* from a code to its place among the symbols */
    const uint8_t *symbols;
    uint8_t first[256]; /* whether the place is where its symbol is first */
};

/* 0 if there are more codes of a length than can be. */
static int make_table(struct table *table, const uint8_t *given)
{
    int32_t code = 0;
    int at = 0;
    memset(table, 0, sizeof *table);
    table->symbols = given + 16;
    for (int length = 1; length <= 16; length++) {
        int count = given[length - 1];
        table->delta[length] = at - code;
        if (at + count > 256 || code + count > 1 << length)
            return 0;
        for (int i = 0; i < count; i++, at++, code++) {
            struct code *known = &table->codes[table->symbols[at]];
            if (known->length)
                continue;
            table->first[at] = 1;
            known->bits = (uint16_t)code;
            known->length = (uint8_t)length;
            if (length <= FAST_BITS)
                for (int j = 0; j < 1 << (FAST_BITS - length); j++) {
                    int place = (code << (FAST_BITS - length)) + j;
                    table->fast[place].symbol = table->symbols[at];
                    table->fast[place].length = (uint8_t)length;
                }
        }
        table->end[length] = code;
        code <<= 1;
    }
    return 1;
}

static int make_tables(
    const struct scan *scan, const uint8_t *given, struct table *tables)
{
    memset(tables, 0, 8 * sizeof *tables);
    for (int i = 0; i < scan->count; i++) {
        int dc = scan->components[i].dc, ac = scan->components[i].ac;
        if (!make_table(&tables[dc], given + dc * TABLE_BYTES))
            return 0;
        if (!make_table(&tables[ac], given + ac * TABLE_BYTES))
            return 0;
    }
    return 1;
}

/* --- Reading bits --------------------------------------------------------------------------- */

struct reader {
    const uint8_t *next, *end;
    uint64_t window; /* the lowest `count` bits are still to be read */
    int count;
    int64_t bits; /* put into the window since the interval began */
};

static void refill(struct reader *reader)
{
    while (reader->count <= 48) {
        if (reader->next == reader->end)
            return;
        uint8_t byte = *reader->next;
        if (byte == 0xFF) {
            if (reader->end - reader->next < 2 || reader->next[1] != 0)
                return; /* a marker, or the end */
            reader->next++;
        }
        reader->next++;
        reader->window = reader->window << 8 | byte;
        reader->count += 8;
        reader->bits += 8;
    }
}

/* So many bits, at most 16; -1 if there are not as many. */
static int32_t take(struct reader *reader, int count)
{
    if (reader->count < count) {
        refill(reader);
        if (reader->count < count)
            return -1;
    }
    reader->count -= count;
    return (int32_t)(reader->window >> reader->count & ((1u << count) - 1));
}

/* The next symbol, -1 if there is none. */
static int symbol(struct reader *reader, const struct table *table)
{
    if (reader->count < 16)
        refill(reader);
    uint32_t ahead = reader->count >= 16
        ? (uint32_t)(reader->window >> (reader->count - 16)) & 0xFFFF
        : (uint32_t)(reader->window << (16 - reader->count)) & 0xFFFF;
    int length = table->fast[ahead >> (16 - FAST_BITS)].length;
    if (length) {
        if (length > reader->count)
            return -1;
        reader->count -= length;
        return table->fast[ahead >> (16 - FAST_BITS)].symbol;
    }
    for (length = 1; length <= 16; length++) {
        int32_t code = (int32_t)(ahead >> (16 - length));
        if (code < table->end[length]) {
            int32_t at = code + table->delta[length];
            if (at < 0 || at > 255 || !table->first[at] || length > reader->count)
                return -1;
            reader->count -= length;
            return table->symbols[at];
        }
    }
    return -1;
}

/* A number of so many bits, as JPEG writes them; `size` is 1 to 15. 0 (that is never one of them)
 * if there is none. */
static int32_t number(struct reader *reader, int size)
{
    int32_t bits = take(reader, size);
    if (bits < 0)
        return 0;
    return bits < 1 << (size - 1) ? bits - (1 << size) + 1 : bits;
}

/* --- Blocks, read --------------------------------------------------------------------------- */

struct state {
    const struct scan *scan;
    struct table tables[8];
    int32_t dc[MOST_COMPONENTS];
    int32_t run;     /* ended blocks to come */
    int32_t waiting; /* correction bits in the run so far */
    uint32_t block;  /* number of the block in the scan */
    /* Reading: */
    int32_t length;   /* of the run so far */
    int ended;        /* whether a run ended at the block before, and the rule would not end it */
    struct exception *exceptions;
    int64_t exception_count, exception_room;
};

static int except(struct state *state, uint32_t block, uint32_t runs)
{
    if (state->exception_count >= state->exception_room)
        return 0;
    state->exceptions[state->exception_count++] = (struct exception){block, runs};
    return 1;
}

static int fits(int32_t value)
{
    return value >= -32767 && value <= 32767;
}

static int read_dc(
    struct state *state, struct reader *reader, int which, const struct table *table, int16_t *block)
{
    int size = symbol(reader, table);
    if (size < 0 || size > 15)
        return 0;
    int32_t difference = 0;
    if (size && !(difference = number(reader, size)))
        return 0;
    int32_t value = state->dc[which] + difference;
    if (!fits(value * (1 << state->scan->al)))
        return 0;
    state->dc[which] = value;
    block[0] = (int16_t)(value * (1 << state->scan->al));
    return 1;
}

static int read_dc_bit(struct state *state, struct reader *reader, int16_t *block)
{
    int32_t bit = take(reader, 1);
    if (bit < 0)
        return 0;
    int32_t value = block[0] + bit * (1 << state->scan->al);
    block[0] = (int16_t)value;
    return 1;
}

static int read_block(
    struct state *state, struct reader *reader, int which, int16_t *block)
{
    const struct component *component = &state->scan->components[which];
    const struct table *table = &state->tables[component->ac];
    if (!read_dc(state, reader, which, &state->tables[component->dc], block))
        return 0;
    uint32_t runs = 0; /* of 16 zeros, since the last coefficient */
    for (int k = 1; k < 64; k++) {
        int found = symbol(reader, table), size = found & 15;
        if (found < 0)
            return 0;
        if (size == 0) {
            if (found == 0)
                return !runs || except(state, state->block, runs);
            if (found != 0xF0)
                return 0;
            k += 15;
            runs++;
            continue;
        }
        k += found >> 4;
        if (k > 63)
            return 0;
        int32_t value = number(reader, size);
        if (!value)
            return 0;
        block[k] = (int16_t)value;
        runs = 0;
    }
    return !runs; /* runs up to the very end are written by nobody */
}

/* After a run's block: does it end, and would the rule end it? 0 if that cannot be kept. */
static int after_ended(struct state *state)
{
    state->length++;
    int rule = state->length == LONGEST_RUN || state->waiting >= WAITING_BITS;
    state->ended = 0;
    if (state->run == 0) {
        state->ended = !rule; /* which is against the rule only if the next block begins a run */
        state->length = state->waiting = 0;
    } else if (rule) {
        if (!except(state, state->block, 0))
            return 0;
        /* The writer goes on, and its rule is true again at once, of the bits that wait. */
    }
    return 1;
}

/* A run begins with the first symbol of a block. */
static int begin_run(struct state *state)
{
    int against = state->ended;
    state->ended = 0;
    return !against || except(state, state->block - 1, 0);
}

static int read_run(struct state *state, struct reader *reader, int bits)
{
    int32_t more = bits ? take(reader, bits) : 0;
    if (more < 0)
        return 0;
    state->run = (1 << bits) + more;
    return 1;
}

static int read_ac_first(
    struct state *state, struct reader *reader, const struct table *table, int16_t *block)
{
    const struct scan *scan = state->scan;
    if (state->run) {
        state->run--;
        return after_ended(state);
    }
    uint32_t runs = 0;
    for (int k = scan->ss; k <= scan->se; k++) {
        int found = symbol(reader, table), size = found & 15;
        if (found < 0)
            return 0;
        if (size == 0 && found != 0xF0) {
            if (k == scan->ss && !begin_run(state))
                return 0;
            if (runs && !except(state, state->block, runs))
                return 0;
            if (!read_run(state, reader, found >> 4))
                return 0;
            state->run--;
            return after_ended(state);
        }
        state->ended = 0;
        if (size == 0) {
            k += 15;
            runs++;
            continue;
        }
        k += found >> 4;
        if (k > scan->se)
            return 0;
        int32_t value = number(reader, size);
        if (!value || !fits(value * (1 << scan->al)))
            return 0;
        block[k] = (int16_t)(value * (1 << scan->al));
        runs = 0;
    }
    return !runs;
}

/* Correct the coefficients from k on that are not zero, past so many that are; the place after them,
 * or of the zero that comes next. */
static int correct(
    struct state *state, struct reader *reader, int16_t *block, int k, int zeros, int counted)
{
    int step = 1 << state->scan->al;
    for (; k <= state->scan->se; k++) {
        if (block[k] == 0) {
            if (zeros-- == 0)
                break;
            continue;
        }
        int32_t bit = take(reader, 1);
        if (bit < 0)
            return -1;
        if (counted)
            state->waiting++;
        if (bit)
            block[k] = (int16_t)(block[k] + (block[k] < 0 ? -step : step));
    }
    return k;
}

static int read_ac_bits(
    struct state *state, struct reader *reader, const struct table *table, int16_t *block)
{
    const struct scan *scan = state->scan;
    int k = scan->ss, runs = 0; /* of 16 zeros, since the last new coefficient */
    if (state->run == 0) {
        while (k <= scan->se) {
            int found = symbol(reader, table), size = found & 15;
            int32_t sign = 0;
            if (found < 0 || size > 1)
                return 0;
            if (size == 0 && found != 0xF0) {
                if (runs || (k == scan->ss && !begin_run(state)))
                    return 0;
                if (!read_run(state, reader, found >> 4))
                    return 0;
                break;
            }
            state->ended = 0;
            if (size && (sign = take(reader, 1)) < 0)
                return 0;
            k = correct(state, reader, block, k, found >> 4, 0);
            if (k < 0 || k > scan->se)
                return 0;
            if (size)
                block[k] = (int16_t)((sign ? 1 : -1) * (1 << scan->al));
            runs = !size;
            k++;
        }
        if (state->run == 0)
            return !runs;
    }
    if (correct(state, reader, block, k, 64, 1) < 0)
        return 0;
    state->run--;
    return after_ended(state);
}

static int read_any(struct state *state, struct reader *reader, int which, int16_t *block)
{
    const struct scan *scan = state->scan;
    const struct component *component = &scan->components[which];
    if (!scan->progressive)
        return read_block(state, reader, which, block);
    if (scan->ss == 0)
        return scan->ah ? read_dc_bit(state, reader, block)
                        : read_dc(state, reader, which, &state->tables[component->dc], block);
    const struct table *table = &state->tables[component->ac];
    return scan->ah ? read_ac_bits(state, reader, table, block)
                    : read_ac_first(state, reader, table, block);
}

static int16_t *block_at(
    const struct component *component, int16_t *blocks, int64_t row, int64_t column)
{
    return blocks + 64 * (component->first + row * component->stride + column);
}

static int read_unit(
    struct state *state, struct reader *reader, int64_t row, int64_t column, int16_t *blocks)
{
    const struct scan *scan = state->scan;
    for (int i = 0; i < scan->count; i++) {
        const struct component *component = &scan->components[i];
        for (int y = 0; y < component->v; y++)
            for (int x = 0; x < component->h; x++, state->block++) {
                int16_t *block = block_at(component, blocks, row * component->v + y,
                    column * component->h + x);
                if (!read_any(state, reader, i, block))
                    return 0;
            }
    }
    return 1;
}

static void begin_interval(struct state *state)
{
    memset(state->dc, 0, sizeof state->dc);
    state->run = state->waiting = state->length = state->ended = 0;
}

/* The byte after so many bits from `from` on. */
static const uint8_t *after(const uint8_t *from, int64_t bits)
{
    for (int64_t i = 0; i < bits >> 3; i++)
        from += from[0] == 0xFF ? 2 : 1;
    return from;
}

/* Read a scan whose data begin at `start`, up to its end or to the first thing that scan_write would
 * not write. `pads` are what fills the last byte of each interval: ZEROS, ONES, or the bits with a one
 * before them, and where none are missing what filled the one before; there is room for one of each
 * interval. `found`: how many bytes were read, units, pads, exceptions. The blocks of
 * whole units are right; of what comes after, anything may stand in the bits that this scan is about.
 * Returns -1 if there is no memory. */
EXPORT int scan_read(const uint8_t *data, int64_t length, const int32_t *what, const uint8_t *tables,
    int16_t *blocks, uint8_t *pads, uint32_t *exceptions, int64_t exception_room, int64_t *found)
{
    const struct scan *scan = (const struct scan *)what;
    struct state *state = calloc(1, sizeof *state);
    if (!state)
        return -1;
    struct reader reader = {data, data + length, 0, 0, 0};
    const uint8_t *interval = data; /* where it begins */
    int64_t units = (int64_t)scan->across * scan->down, unit = 0, pad_count = 0;
    int64_t good_units = 0, good_bits = 0, good_exceptions = 0, good_pads = 0;
    const uint8_t *good_interval = data;
    uint32_t before = ONES; /* the pad */
    state->scan = scan;
    state->exceptions = (struct exception *)exceptions;
    state->exception_room = exception_room;
    if (!make_tables(scan, tables, state->tables))
        goto done;
    while (unit < units) {
        if (!read_unit(state, &reader, unit / scan->across, unit % scan->across, blocks))
            break;
        unit++;
        int last = unit == units || (scan->interval && unit % scan->interval == 0);
        if (last && state->run)
            break;
        if (state->run == 0) {
            good_units = unit;
            good_bits = reader.bits - reader.count;
            good_exceptions = state->exception_count;
            good_pads = pad_count;
            good_interval = interval;
        }
        if (!last)
            continue;
        int left = reader.count & 7;
        uint32_t pad = (uint32_t)(reader.window >> (reader.count - left)) & ((1u << left) - 1);
        const uint8_t *next = after(interval, good_bits + left);
        if (unit < units) {
            int marker = 0xD0 + (int)((unit / scan->interval - 1) & 7);
            if (data + length - next < 2 || next[0] != 0xFF || next[1] != marker)
                break;
            next += 2;
        }
        before = !left ? before : pad == 0 ? ZEROS : pad == (1u << left) - 1 ? ONES : pad | 1u << left;
        pads[pad_count++] = (uint8_t)before;
        begin_interval(state);
        interval = good_interval = next;
        good_bits = 0;
        good_pads = pad_count;
        reader = (struct reader){next, data + length, 0, 0, 0};
    }
done:
    found[0] = after(good_interval, good_bits) - data;
    found[1] = good_units;
    found[2] = good_pads;
    found[3] = good_exceptions;
    free(state);
    return 0;
}

/* --- Writing -------------------------------------------------------------------------------- */

struct writer {
    uint8_t *next, *end;
    uint64_t window;
    int count;
    int failed;
};

static void put_byte(struct writer *writer, uint8_t byte)
{
    if (writer->end - writer->next < 1 + (byte == 0xFF)) {
        writer->failed = 1;
        return;
    }
    *writer->next++ = byte;
    if (byte == 0xFF)
        *writer->next++ = 0;
}

/* At most 16 bits. */
static inline void put(struct writer *writer, uint32_t bits, int count)
{
    writer->window = writer->window << count | bits;
    writer->count += count;
    while (writer->count >= 32) {
        for (int i = 0; i < 4; i++) {
            writer->count -= 8;
            put_byte(writer, (uint8_t)(writer->window >> writer->count));
        }
    }
}

static void put_bytes(struct writer *writer)
{
    while (writer->count >= 8) {
        writer->count -= 8;
        put_byte(writer, (uint8_t)(writer->window >> writer->count));
    }
}

static inline void put_symbol(struct writer *writer, const struct table *table, int which)
{
    struct code code = table->codes[which];
    if (code.length == 0)
        writer->failed = 1;
    put(writer, code.bits, code.length);
}

static inline int size_of(int32_t value)
{
    uint32_t left = (uint32_t)(value < 0 ? -value : value);
    int size = 0;
    for (; left; left >>= 1)
        size++;
    return size;
}

static inline void put_number(struct writer *writer, int32_t value, int size)
{
    put(writer, (uint32_t)(value < 0 ? value + (1 << size) - 1 : value), size);
}


struct writing {
    struct state state; /* run: of ended blocks that are not written yet */
    struct writer writer;
    const struct exception *next, *end;
    uint8_t bits[LONGEST_RUN + 64]; /* corrections that wait for their run to be written */
    int32_t bit_count;
};

static inline void write_number(
    struct writer *writer, const struct table *table, int zeros, int32_t value)
{
    int size = size_of(value);
    if (size > 15) {
        writer->failed = 1;
        return;
    }
    put_symbol(writer, table, zeros << 4 | size);
    put_number(writer, value, size);
}

static void write_dc(
    struct writing *writing, int which, const struct table *table, int32_t value)
{
    int32_t difference = value - writing->state.dc[which];
    int size = size_of(difference);
    writing->state.dc[which] = value;
    if (size > 15) {
        writing->writer.failed = 1;
        return;
    }
    put_symbol(&writing->writer, table, size);
    if (size)
        put_number(&writing->writer, difference, size);
}

/* The exceptional runs of zeros before the end of this block. */
static void write_zero_runs(struct writing *writing, const struct table *table)
{
    if (writing->next == writing->end || writing->next->block != writing->state.block
        || !writing->next->runs)
        return;
    for (uint32_t i = 0; i < writing->next->runs && !writing->writer.failed; i++)
        put_symbol(&writing->writer, table, 0xF0);
    writing->next++;
}

static void write_block(struct writing *writing, int which, const int16_t *block)
{
    struct writer *writer = &writing->writer;
    const struct component *component = &writing->state.scan->components[which];
    const struct table *table = &writing->state.tables[component->ac];
    write_dc(writing, which, &writing->state.tables[component->dc], block[0]);
    int zeros = 0;
    for (int k = 1; k < 64; k++) {
        if (block[k] == 0) {
            zeros++;
            continue;
        }
        for (; zeros > 15; zeros -= 16)
            put_symbol(writer, table, 0xF0);
        write_number(writer, table, zeros, block[k]);
        zeros = 0;
    }
    if (zeros) {
        write_zero_runs(writing, table);
        put_symbol(writer, table, 0);
    }
}

static void write_waiting(struct writing *writing)
{
    for (int i = 0; i < writing->bit_count; i++)
        put(&writing->writer, writing->bits[i], 1);
    writing->bit_count = 0;
}

/* Write the run of ended blocks that waits, and its corrections. */
static void write_run(struct writing *writing, const struct table *table)
{
    struct state *state = &writing->state;
    if (state->run) {
        int bits = size_of(state->run) - 1;
        put_symbol(&writing->writer, table, bits << 4);
        put(&writing->writer, (uint32_t)state->run & ((1u << bits) - 1), bits);
        state->run = 0;
    }
    write_waiting(writing);
}

/* This block is one of a run's. */
static void end_block(struct writing *writing, const struct table *table)
{
    struct state *state = &writing->state;
    state->run++;
    int ends = state->run == LONGEST_RUN || writing->bit_count >= WAITING_BITS;
    if (writing->next != writing->end && writing->next->block == state->block
        && !writing->next->runs) {
        ends = !ends;
        writing->next++;
    }
    if (ends)
        write_run(writing, table);
    else if (state->run >= LONGEST_RUN || writing->bit_count >= LONGEST_RUN)
        writing->writer.failed = 1;
}

static void write_ac_first(
    struct writing *writing, const struct table *table, const int16_t *block)
{
    const struct scan *scan = writing->state.scan;
    int zeros = 0;
    for (int k = scan->ss; k <= scan->se; k++) {
        int32_t size = (block[k] < 0 ? -block[k] : block[k]) >> scan->al;
        if (size == 0) {
            zeros++;
            continue;
        }
        write_run(writing, table);
        for (; zeros > 15; zeros -= 16)
            put_symbol(&writing->writer, table, 0xF0);
        write_number(&writing->writer, table, zeros, block[k] < 0 ? -size : size);
        zeros = 0;
    }
    if (zeros) {
        if (writing->next != writing->end && writing->next->block == writing->state.block
            && writing->next->runs) {
            write_run(writing, table);
            write_zero_runs(writing, table);
        }
        end_block(writing, table);
    }
}

static void write_ac_bits(
    struct writing *writing, const struct table *table, const int16_t *block)
{
    const struct scan *scan = writing->state.scan;
    int zeros = 0, last = 0;
    uint8_t fixes[64]; /* corrections since the last symbol */
    int fix_count = 0;
    for (int k = scan->ss; k <= scan->se; k++)
        if ((block[k] < 0 ? -block[k] : block[k]) >> scan->al == 1)
            last = k;
    for (int k = scan->ss; k <= scan->se; k++) {
        int32_t size = (block[k] < 0 ? -block[k] : block[k]) >> scan->al;
        if (size == 0) {
            zeros++;
            continue;
        }
        while (zeros > 15 && k <= last) {
            write_run(writing, table);
            put_symbol(&writing->writer, table, 0xF0);
            for (int i = 0; i < fix_count; i++)
                put(&writing->writer, fixes[i], 1);
            fix_count = 0;
            zeros -= 16;
        }
        if (size > 1) {
            fixes[fix_count++] = size & 1;
            continue;
        }
        write_run(writing, table);
        put_symbol(&writing->writer, table, zeros << 4 | 1);
        put(&writing->writer, block[k] > 0, 1);
        for (int i = 0; i < fix_count; i++)
            put(&writing->writer, fixes[i], 1);
        fix_count = zeros = 0;
    }
    if (zeros || fix_count) {
        memcpy(writing->bits + writing->bit_count, fixes, (size_t)fix_count);
        writing->bit_count += fix_count;
        end_block(writing, table);
    }
}

static void write_any(struct writing *writing, int which, const int16_t *block)
{
    const struct scan *scan = writing->state.scan;
    const struct component *component = &scan->components[which];
    const struct table *ac = &writing->state.tables[component->ac];
    if (!scan->progressive)
        write_block(writing, which, block);
    else if (scan->ss)
        (scan->ah ? write_ac_bits : write_ac_first)(writing, ac, block);
    else if (scan->ah)
        put(&writing->writer, (uint32_t)(block[0] >> scan->al) & 1, 1);
    else
        write_dc(writing, which, &writing->state.tables[component->dc], block[0] >> scan->al);
}

static void write_unit(
    struct writing *writing, int64_t row, int64_t column, const int16_t *blocks)
{
    const struct scan *scan = writing->state.scan;
    for (int i = 0; i < scan->count; i++) {
        const struct component *component = &scan->components[i];
        for (int y = 0; y < component->v; y++)
            for (int x = 0; x < component->h; x++, writing->state.block++)
                write_any(writing, i,
                    block_at(component, (int16_t *)blocks, row * component->v + y,
                        column * component->h + x));
    }
}

/* Write the first units of a scan: the bytes that scan_read has read. Returns how many they are; -1
 * if that cannot be, or takes more than `room` bytes; -2 if there is no memory. */
EXPORT int64_t scan_write(const int16_t *blocks, const int32_t *what, const uint8_t *tables,
    const uint8_t *pads, int64_t pad_count, const uint32_t *exceptions, int64_t exception_count,
    int64_t units, uint8_t *out, int64_t room)
{
    const struct scan *scan = (const struct scan *)what;
    struct writing *writing = calloc(1, sizeof *writing);
    if (!writing)
        return -2;
    struct writer *writer = &writing->writer;
    int64_t all = (int64_t)scan->across * scan->down, pad = 0, written = -1;
    const struct table *table = &writing->state.tables[scan->components[0].ac];
    writing->state.scan = scan;
    writing->next = (const struct exception *)exceptions;
    writing->end = writing->next + exception_count;
    writer->next = out;
    writer->end = out + room;
    if (!make_tables(scan, tables, writing->state.tables))
        goto done;
    for (int64_t unit = 0; unit < units && !writer->failed;) {
        write_unit(writing, unit / scan->across, unit % scan->across, blocks);
        unit++;
        int last = unit == all || (scan->interval && unit % scan->interval == 0);
        if (!last && unit < units)
            continue;
        write_run(writing, table);
        if (!last || pad == pad_count)
            break; /* what follows is kept as bytes */
        int left = (8 - (writer->count & 7)) & 7;
        uint8_t filling = pads[pad++];
        if (left && filling != ZEROS && filling != ONES && filling >> left != 1)
            writer->failed = 1;
        put(writer, filling & ((1u << left) - 1), left);
        put_bytes(writer);
        begin_interval(&writing->state);
        if (unit == all)
            break;
        if (writer->end - writer->next < 2) {
            writer->failed = 1;
            break;
        }
        *writer->next++ = 0xFF;
        *writer->next++ = (uint8_t)(0xD0 + ((unit / scan->interval - 1) & 7));
    }
    put_bytes(writer);
    if (!writer->failed)
        written = writer->next - out;
done:
    free(writing);
    return written;
}
