/* The compiled backend of frozen networks: whole tiles in one call. See engine.h. */

#include "engine.h"

#include <fenv.h>
#include <stdlib.h>
#include <string.h>

#include "coding.h"
#include "targets.h"

enum { GIVEN = 7, ABOVE = 3, LEFT = 6, RIGHT = 4, AROUND = 2, SLACK = ROWS };

/* --- Where things lie ------------------------------------------------------------------------ */

static inline uint8_t *pixel(const struct evaluation *ev, int row, int column)
{
    int entry = ev->network->colours + 1;
    return ev->pixels + (row + ABOVE) * ev->pitch + (column + LEFT) * entry;
}

static inline uint8_t *given(const struct evaluation *ev, int row, int column)
{
    return ev->given + (row + AROUND) * ev->given_pitch + (column + AROUND) * GIVEN;
}

/* The window's pixels, side by side; returns where they end. */
static inline uint8_t *copied_window(uint8_t *out, const uint8_t *p, ptrdiff_t pitch, int entry)
{
    memcpy(out, p - 3 * pitch - 4 * entry, 9 * entry);
    memcpy(out + 9 * entry, p - 2 * pitch - 5 * entry, 9 * entry);
    memcpy(out + 18 * entry, p - pitch - 5 * entry, 7 * entry);
    memcpy(out + 25 * entry, p - 6 * entry, 6 * entry);
    return out + 31 * entry;
}

static inline int contrasts(const struct network *net)
{
    return net->near * net->colours + (net->given ? 16 : 0);
}

/* Where pixel number `at` of those at hand has its activations in a block's store, and where its
 * taps have theirs. */
static inline uint8_t *places(
    const struct evaluation *ev, int block, int at, const uint8_t *taps[TAPS])
{
    ptrdiff_t size = ev->network->channels, offset[TAPS];
    if (ev->by_rows) {
        ptrdiff_t own = ev->next - ev->n + at - ev->kept, above = own - ev->width - 1;
        ptrdiff_t found[TAPS] = {above - 1, above, above + 1, own - 1, own};
        memcpy(offset, found, sizeof offset);
    } else {
        ptrdiff_t rows = ev->height + 1, own = ev->row[at] + 1;
        int64_t front = ev->next - 1;
        static const int back[TAPS] = {3, 2, 1, 1, 0}, up[TAPS] = {1, 1, 1, 0, 0};
        for (int tap = 0; tap < TAPS; tap++)
            offset[tap] = ((front - back[tap]) & 3) * rows + own - up[tap];
    }
    for (int tap = 0; tap < TAPS; tap++)
        taps[tap] = ev->stores[block] + offset[tap] * size;
    return ev->stores[block] + offset[TAPS - 1] * size;
}

/* By rows: make the activations zero of the pixels that are beyond the tile. */
static inline void clear_beyond(const struct evaluation *ev, int block, int at, int n)
{
    ptrdiff_t size = ev->network->channels;
    if (!ev->by_rows)
        return;
    for (int i = at; i < at + n; i++)
        if (ev->column[i] == ev->width)
            memset(ev->stores[block] + (ev->next - ev->n + i - ev->kept) * size, 0, size);
}

static const int32_t no_code[1024];

/* What an earlier colour's residual adds to a head's hidden units. */
static inline const int32_t *coded(const struct network *net, int table, int32_t residual)
{
    int32_t size = (residual < 0 ? -residual : residual) >> 4;
    int32_t index = net->bins[size < net->last_bin ? size : net->last_bin];
    int32_t row = net->code_rows / 2 + (residual < 0 ? -index : index);
    return net->code + ((ptrdiff_t)table * net->code_rows + row) * net->head;
}

#include "product.h"

/* --- Instruction sets -------------------------------------------------------------------------- */

#ifdef HAS_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux lends a process the tiles if it asks. */
static int amx_is_here(void)
{
    enum { REQUEST = 0x1023, TILES = 18 };
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d >> 24 & 3) != 3)
        return 0;
    return syscall(SYS_arch_prctl, REQUEST, TILES) == 0;
}
#endif

#ifdef HAS_AVXVNNI
#include <cpuid.h>

static int avxvnni_is_here(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1)
           && avx2_is_here();
}
#endif

#ifdef HAS_DOTPROD
#ifdef __APPLE__
static int dotprod_is_here(void) { return 1; }
#else
#include <sys/auxv.h>

static int dotprod_is_here(void)
{
    enum { DOT_PRODUCTS = 20 }; /* a bit of Linux's ABI */
    return getauxval(AT_HWCAP) >> DOT_PRODUCTS & 1;
}
#endif
#endif

/* The instruction sets that are here, fastest first. What asks the processor may take as long as
 * some layers of a small tile, so it is asked once. */
static const struct backend *backends[8];
static int backend_count;

static void find_backends(void)
{
    int count = 0;
#ifdef X86
#ifdef HAS_AVX512VNNI
    int avx512vnni = avx512vnni_is_here();
#ifdef HAS_AMX
    if (avx512vnni && amx_is_here())
        backends[count++] = &backend_amx;
#endif
    if (avx512vnni)
        backends[count++] = &backend_avx512vnni;
#endif
#ifdef HAS_AVXVNNI
    if (avxvnni_is_here())
        backends[count++] = &backend_avxvnni;
#endif
    if (avx2_is_here())
        backends[count++] = &backend_avx2;
    backends[count++] = &backend_sse2;
#endif
#ifdef ARM
#ifdef HAS_DOTPROD
    if (dotprod_is_here())
        backends[count++] = &backend_dotprod;
#endif
    backends[count++] = &backend_neon;
#endif
    backends[count++] = &backend_portable;
    backend_count = count;
}

/* The number-th one, or NULL. */
static const struct backend *backend(int number)
{
    return number < backend_count ? backends[number] : NULL;
}

/* --- Evaluations ------------------------------------------------------------------------------- */

static void *memory(size_t size)
{
    void *found = NULL;
#ifdef _WIN32
    found = _aligned_malloc(size, 64);
#else
    if (posix_memalign(&found, 64, size) != 0)
        return NULL;
#endif
    return found;
}

static void give_back(void *memory)
{
#ifdef _WIN32
    _aligned_free(memory);
#else
    free(memory);
#endif
}

EXPORT void engine_close(struct evaluation *ev)
{
    if (ev == NULL)
        return;
    void *parts[] = {ev->row, ev->column, ev->pixels, ev->given, ev->window, ev->x, ev->y,
        ev->stream, ev->values, ev->hidden, ev->predicted, ev->contrasts, ev->centre,
        ev->residual, ev->components, ev->spans, ev->likely};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        give_back(parts[i]);
    for (int b = 0; b < MOST_BLOCKS; b++)
        give_back(ev->stores[b]);
    give_back(ev);
}

static int reserve(struct evaluation *ev)
{
    const struct network *net = ev->network;
    size_t most = ev->most, entry = net->colours + 1, k = net->components;
    size_t wide = net->channels > net->head ? net->channels : net->head, values = 0;
    for (int c = 0; c < net->colours; c++)
        if ((size_t)net->heads[c].outputs > values)
            values = net->heads[c].outputs;
    ev->pitch = ((ptrdiff_t)ev->width + LEFT + RIGHT) * entry;
    ev->given_pitch = ((ptrdiff_t)ev->width + 2 * AROUND + 1) * GIVEN;
    size_t area = (size_t)(ev->height + ABOVE) * ev->pitch;
    size_t given_area = net->given ? (size_t)(ev->height + 2 * AROUND) * ev->given_pitch : 1;
    struct {
        void *at;
        size_t size;
    } parts[] = {
        {&ev->row, most * sizeof *ev->row},
        {&ev->column, most * sizeof *ev->column},
        {&ev->pixels, area},
        {&ev->given, given_area},
        {&ev->window, (size_t)CHUNK * net->first.pitch + MOST_DEPTH},
        {&ev->x, CHUNK * wide + MOST_DEPTH},
        {&ev->y, CHUNK * wide + MOST_DEPTH},
        {&ev->stream, CHUNK * wide * sizeof *ev->stream},
        {&ev->values, CHUNK * values * sizeof *ev->values},
        {&ev->hidden, most * net->trunk.outputs * sizeof *ev->hidden},
        {&ev->predicted, most * net->colours * sizeof *ev->predicted},
        {&ev->contrasts, most * contrasts(net) * sizeof *ev->contrasts},
        {&ev->centre, most * sizeof *ev->centre},
        {&ev->residual, most * net->colours * sizeof *ev->residual},
        {&ev->components, most * k * sizeof *ev->components},
        {&ev->spans, most * sizeof *ev->spans},
        {&ev->likely, most},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        void *found = memory(parts[i].size);
        if (found == NULL)
            return 0;
        memcpy(parts[i].at, &found, sizeof found);
    }
    memset(ev->pixels, ZERO, area);
    memset(ev->given, ZERO, given_area);
    memset(ev->window, 0, (size_t)CHUNK * net->first.pitch + MOST_DEPTH);
    memset(ev->x, 0, CHUNK * wide + MOST_DEPTH);
    /* Pixels beyond the tile go through the heads, too, and never get a residual. */
    memset(ev->residual, 0, most * net->colours * sizeof *ev->residual);
    memset(ev->y, 0, CHUNK * wide + MOST_DEPTH);
    if (ev->by_rows)
        ev->entries = 2 * (ev->width + 2) + CHUNK;
    else
        ev->entries = 4 * (ev->height + 1);
    size_t store = (size_t)(ev->entries + SLACK) * net->channels + MOST_DEPTH;
    for (int b = 0; b < net->blocks; b++) {
        if (!net->masked[b])
            continue;
        ev->stores[b] = memory(store);
        if (ev->stores[b] == NULL)
            return 0;
        memset(ev->stores[b], 0, store);
    }
    return 1;
}

/* How far up a pixel's parameters depend on activations: a row for each masked block. */
static int rows_above(const struct network *network)
{
    int rows = 0;
    for (int b = 0; b < network->blocks; b++)
        rows += network->masked[b] != 0;
    return rows;
}

/* An evaluation of a tile. If its `pixels` (height, width, channels) are given, it goes row by row,
 * from the `first` that is asked for, otherwise front by front. `given` is (height, width,
 * samples). NULL if there is no memory. */
EXPORT struct evaluation *engine_open(const struct network *network, int isa, int height, int width,
    int channels, const uint8_t *pixels, int first, const uint8_t *samples, int samples_each)
{
    struct evaluation *ev = memory(sizeof *ev);
    if (ev == NULL)
        return NULL;
    memset(ev, 0, sizeof *ev);
    ev->network = network;
    ev->backend = backend(isa);
    ev->height = height;
    ev->width = width;
    ev->channels = channels;
    ev->by_rows = pixels != NULL;
    if (ev->by_rows) {
        int start = first - rows_above(network);
        ev->first = first;
        ev->next = start > 0 ? (int64_t)start * (width + 1) : 0;
    }
    ev->kept = ev->next - (width + 2);
    int fronts = (width + LAG - 1) / LAG;
    ev->most = ev->by_rows ? CHUNK : height < fronts ? height : fronts;
    if (ev->backend == NULL || !reserve(ev)) {
        engine_close(ev);
        return NULL;
    }
    for (int row = 0; row < height; row++)
        for (int column = 0; column < width; column++) {
            uint8_t *p = pixel(ev, row, column);
            for (int c = 0; pixels != NULL && c < network->colours; c++)
                p[c] = pixels[c < channels ? c : 0];
            p[network->colours] = ZERO + 64;
            if (pixels != NULL)
                pixels += channels;
            if (network->given) {
                uint8_t *g = given(ev, row, column);
                memcpy(g, samples, 4);
                g[4] = ZERO + 64;
                if (samples_each > 4) {
                    g[5] = samples[4];
                    g[6] = ZERO + 64;
                }
                samples += samples_each;
            }
        }
    return ev;
}

/* Floats are rounded to nearest, whatever the program around us may have asked for. */
static void enter(const struct evaluation *ev, fenv_t *before)
{
    fegetenv(before);
    fesetenv(FE_DFL_ENV);
    ev->backend->enter();
}

static void leave(const struct evaluation *ev, const fenv_t *before)
{
    ev->backend->leave();
    fesetenv(before);
}

/* Take the pixels of the next front; 0 if there is none left. */
static int64_t next_front(struct evaluation *ev)
{
    int64_t front = ev->next, first = front - ev->width + 1;
    first = first > 0 ? (first + LAG - 1) / LAG : 0;
    int64_t last = front / LAG < ev->height - 1 ? front / LAG : ev->height - 1;
    if (first >= ev->height)
        return 0;
    ev->n = (int32_t)(last - first + 1 > 0 ? last - first + 1 : 0);
    for (int i = 0; i < ev->n; i++) {
        ev->row[i] = (int32_t)first + i;
        ev->column[i] = (int32_t)(front - LAG * (first + i));
    }
    ev->next = front + 1;
    /* Where a row has just ended lies what the row below takes for the pixel right of it. */
    int64_t ended = front - ev->width;
    if (ended >= 0 && ended % LAG == 0 && ended / LAG < ev->height) {
        ptrdiff_t at = (front & 3) * (ev->height + 1) + ended / LAG + 1;
        for (int b = 0; b < ev->network->blocks; b++)
            if (ev->network->masked[b])
                memset(ev->stores[b] + at * ev->network->channels, 0, ev->network->channels);
    }
    return 1;
}

/* Take the next pixels row by row, up to the end of a row. */
static int next_by_rows(struct evaluation *ev, int rows_end)
{
    int64_t wide = ev->width + 1, end = rows_end * wide;
    if (ev->next >= end)
        return 0;
    ev->n = (int32_t)(end - ev->next < CHUNK ? end - ev->next : CHUNK);
    if (ev->next + ev->n - ev->kept > ev->entries) {
        int64_t kept = ev->next - wide - 1; /* the first tap of the next pixel */
        size_t size = ev->network->channels, count = (size_t)(ev->next - kept);
        for (int b = 0; b < ev->network->blocks; b++)
            if (ev->network->masked[b])
                memmove(ev->stores[b], ev->stores[b] + (kept - ev->kept) * size, count * size);
        ev->kept = kept;
    }
    for (int i = 0; i < ev->n; i++) {
        ev->row[i] = (int32_t)((ev->next + i) / wide);
        ev->column[i] = (int32_t)((ev->next + i) % wide);
    }
    ev->next += ev->n;
    return 1;
}

static void learn(struct evaluation *ev, int colour, int i, uint8_t value)
{
    int colours = ev->network->colours;
    ev->residual[i * colours + colour] = 256 * value - ev->centre[i];
    uint8_t *p = pixel(ev, ev->row[i], ev->column[i]);
    if (ev->channels == colours)
        p[colour] = value;
    else
        memset(p, value, colours);
}

static int32_t *parameters_of(struct evaluation *ev)
{
    return memory((size_t)ev->most * 3 * ev->network->components * sizeof(int32_t));
}

/* The factors of a pixel's colour: contrasts and earlier residuals. */
static void copy_factors(const struct evaluation *ev, int i, int colour, int32_t *out)
{
    int size = contrasts(ev->network);
    memcpy(out, ev->contrasts + (size_t)i * size, size * sizeof *out);
    memcpy(out + size, ev->residual + i * ev->network->colours, colour * sizeof *out);
}

/* What the means of a pixel's colour move by, as its factors are weighed. */
static int32_t moved(const struct evaluation *ev, int i, int colour, const int32_t *weights)
{
    int size = contrasts(ev->network);
    const int32_t *contrast = ev->contrasts + (size_t)i * size;
    const int32_t *residual = ev->residual + i * ev->network->colours;
    int64_t total = 2048;
    for (int j = 0; j < size; j++)
        total += (int64_t)weights[j] * contrast[j];
    for (int e = 0; e < colour; e++)
        total += (int64_t)weights[size + e] * residual[e];
    return (int32_t)clamped(total >> 12, -LIMIT, LIMIT);
}

/* `shift` (3, components) is added to all parameters, if there is one, and to the means what
 * `weights` (contrasts and colours) move them by. */
static void find_mixtures(struct evaluation *ev, int colour, const int32_t *shift,
    const int32_t *weights, int32_t *parameters)
{
    int k = ev->network->components;
    ev->backend->head(ev, colour, parameters);
    for (int i = 0; i < ev->n && shift != NULL; i++) {
        int32_t *own = parameters + (size_t)i * 3 * k, mean = moved(ev, i, colour, weights);
        for (int j = 0; j < 3 * k; j++)
            own[j] += shift[j];
        for (int j = k; j < 2 * k; j++)
            own[j] += mean;
    }
    for (int i = 0; i < ev->n; i++)
        ev->likely[i] = mixture(parameters + (size_t)i * 3 * k, k, ev->components + (size_t)i * k);
}

/* Pixels before front t, and pixels of it, in the order of decoding. */
static int64_t before_front(int64_t height, int64_t width, int64_t front)
{
    /* Row r has min(width, max(0, front - LAG * r)) of them. */
    int64_t begun = (front + LAG - 1) / LAG, whole = 0;
    begun = begun < height ? begun : height;
    if (front >= width)
        whole = (front - width) / LAG + 1;
    whole = whole < begun ? whole : begun;
    int64_t count = begun - whole;
    return whole * width + front * count - LAG * (whole + begun - 1) * count / 2;
}

/* Score the next `rows` rows of a tile whose pixels are known. Either `parameters`, (pixels,
 * channels, 3, components) of these rows, and `factors` (pixels, contrasts + channels) unless it is
 * NULL; or `intervals`, (nibbles, 3) of the whole tile in the order of decoding, are filled in.
 * Returns 0, or 2 if there is no memory. */
EXPORT int engine_score(
    struct evaluation *ev, int rows, int32_t *parameters, int32_t *factors, float *intervals)
{
    const struct network *net = ev->network;
    int channels = ev->channels, k = net->components;
    int begun = (int)(ev->next / (ev->width + 1));
    int first_row = begun > ev->first ? begun : ev->first;
    int32_t *found = parameters_of(ev);
    int64_t *rank = memory(CHUNK * sizeof *rank), *stride = memory(CHUNK * sizeof *stride);
    fenv_t before;
    if (found == NULL || rank == NULL || stride == NULL) {
        give_back(found), give_back(rank), give_back(stride);
        return 2;
    }
    enter(ev, &before);
    while (next_by_rows(ev, first_row + rows)) {
        ev->backend->visit(ev);
        if (ev->row[ev->n - 1] < first_row)
            continue;
        if (intervals != NULL)
            for (int i = 0; i < ev->n; i++) {
                int64_t front = ev->column[i] + LAG * ev->row[i], end = front - ev->width + 1;
                int64_t begin = before_front(ev->height, ev->width, front);
                int64_t first = end > 0 ? (end + LAG - 1) / LAG : 0;
                stride[i] = before_front(ev->height, ev->width, front + 1) - begin;
                rank[i] = begin * channels * 2 + ev->row[i] - first;
            }
        for (int colour = 0; colour < channels; colour++) {
            ev->backend->head(ev, colour, found);
            for (int i = 0; i < ev->n; i++) {
                int row = ev->row[i], column = ev->column[i];
                if (column == ev->width || row < first_row)
                    continue;
                int value = pixel(ev, row, column)[colour];
                ev->residual[i * net->colours + colour] = 256 * value - ev->centre[i];
                const int32_t *own = found + (size_t)i * 3 * k;
                if (parameters != NULL) {
                    size_t at = (size_t)(row - first_row) * ev->width + column;
                    memcpy(parameters + (at * channels + colour) * 3 * k, own, 3 * k * sizeof *own);
                    if (factors != NULL && colour == channels - 1)
                        copy_factors(ev, i, channels, factors + at * (contrasts(net) + channels));
                } else {
                    mixture(own, k, ev->components);
                    float *high = intervals + 3 * (rank[i] + 2 * colour * stride[i]);
                    mixture_interval(ev->components, k, value, high, high + 3 * stride[i]);
                }
            }
        }
    }
    leave(ev, &before);
    give_back(found), give_back(rank), give_back(stride);
    return 0;
}

/* Decode a payload into `pixels` (height, width, channels), from the decoder's `state` on: offset,
 * range, bytes asked for. If there are `shifts` (channels, 3, components), they are added to the
 * network's parameters, and to the means what `weights` (channels, contrasts + channels) move them
 * by. Returns 0, 1 if the payload is damaged, or 2 if there is no memory. */
EXPORT int engine_decode(struct evaluation *ev, const int32_t *shifts, const int32_t *weights,
    const uint8_t *payload, size_t length, uint8_t *pixels, uint64_t *state)
{
    int k = ev->network->components, channels = ev->channels, result = 0;
    int32_t *parameters = parameters_of(ev);
    int factors = contrasts(ev->network) + channels;
    size_t read = state[2] < length ? (size_t)state[2] : length;
    struct decoder decoder = {state[0], state[1], payload + read, payload + length, state[2]};
    fenv_t before;
    if (parameters == NULL)
        return 2;
    enter(ev, &before);
    while (next_front(ev) && result == 0) {
        ev->backend->visit(ev);
        for (int colour = 0; colour < channels && result == 0; colour++) {
            find_mixtures(ev, colour, shifts ? shifts + 3 * k * colour : NULL,
                shifts ? weights + factors * colour : NULL, parameters);
            for (int i = 0; i < ev->n && result == 0; i++)
                result = !decode_high(
                    &decoder, ev->components + (size_t)i * k, k, ev->likely[i], &ev->spans[i]);
            for (int i = 0; i < ev->n && result == 0; i++) {
                uint8_t value;
                if (decode_low(
                        &decoder, ev->components + (size_t)i * k, k, &ev->spans[i], &value))
                    learn(ev, colour, i, value);
                else
                    result = 1;
            }
        }
    }
    leave(ev, &before);
    give_back(parameters);
    state[0] = decoder.offset;
    state[1] = decoder.range;
    state[2] = decoder.position;
    for (int row = 0; row < ev->height && result == 0; row++)
        for (int column = 0; column < ev->width; column++, pixels += channels)
            memcpy(pixels, pixel(ev, row, column), channels);
    return result;
}

/* Step by step: take the next front, which has so many pixels. */
EXPORT int engine_select(struct evaluation *ev)
{
    fenv_t before;
    do {
        if (!next_front(ev))
            return 0;
    } while (ev->n == 0);
    enter(ev, &before);
    ev->backend->visit(ev);
    leave(ev, &before);
    return ev->n;
}

/* (n, 3, components) of a colour of that front. */
EXPORT void engine_parameters(struct evaluation *ev, int colour, int32_t *parameters)
{
    fenv_t before;
    enter(ev, &before);
    ev->backend->head(ev, colour, parameters);
    leave(ev, &before);
}

/* (n, contrasts + colour) factors of that colour. */
EXPORT void engine_factors(struct evaluation *ev, int colour, int32_t *factors)
{
    for (int i = 0; i < ev->n; i++)
        copy_factors(ev, i, colour, factors + (size_t)i * (contrasts(ev->network) + colour));
}

/* The values (n) of that colour. */
EXPORT void engine_reveal(struct evaluation *ev, int colour, const uint8_t *values)
{
    for (int i = 0; i < ev->n; i++)
        learn(ev, colour, i, values[i]);
}

/* --- What Python asks for once ----------------------------------------------------------------- */

/* First of all: the tables of docs/format.md. */
EXPORT void engine_start(const int64_t *exp, const int64_t *inverse, const int64_t *sigmoids)
{
    fill_tables(exp, inverse, sigmoids);
    find_backends();
}

/* The name of the number-th instruction set, fastest first; NULL if there are no more. */
EXPORT const char *engine_name(int isa)
{
    const struct backend *found = backend(isa);
    return found == NULL ? NULL : found->name;
}

/* How it wants weights laid out: see struct backend. */
EXPORT int engine_group(int isa)
{
    return backend(isa)->group;
}

EXPORT int engine_depth(int isa)
{
    return backend(isa)->depth;
}

EXPORT int engine_offset(int isa)
{
    return backend(isa)->offset;
}

EXPORT size_t engine_network_size(void)
{
    return sizeof(struct network);
}

/* The sums of n rows x (filled up to multiples of ROWS) with a layer: (n, outputs). */
EXPORT void engine_product(const struct layer *layer, int isa, int n, const uint8_t *x, int32_t *sums)
{
    const struct backend *found = backend(isa);
    found->enter();
    found->product(layer, n, x, sums);
    found->leave();
}
