/* The compiled evaluation of frozen programs. See programs.h.
 *
 * Three ways to go through a tile, all of them over the same `evaluate`, which makes some channels of
 * a node's map at some positions:
 *
 *   BY_STEPS   its pixels are not known: a front at a time, each node as far ahead as later ones look;
 *   BY_ROWS    its pixels are known: a row at a time, node by node;
 *   AT_ONCE    of a map that is given to another program: node by node.
 *
 * A map is stored if it is read elsewhere than where it is being made: as many of its rows and
 * columns as are still to be read. In front of them a store holds zeros, for what lies outside of the
 * tile, and the states that an LSTM has learnt for that. No position is used unchecked: a node reads
 * entries of a store only, whatever its taps are. */

#include "programs.h"

#include <fenv.h>
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "coding.h"
#include "targets.h"

#if FLT_EVAL_METHOD != 0
#error "floats have to be rounded after each operation; without this, Python does the work"
#endif

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define X86
#include <immintrin.h>
#if __GNUC__ >= 11 || __clang_major__ >= 12
#define HAS_AVX512VNNI
#endif
#endif

enum {
    CHUNK = 8,   /* rows of a product */
    DEPTH = 255, /* pairs of products that fit 32 bits */
    LIMIT = 1 << 26,
    WIDE_REACH = 1 << 16, /* 16, in units of wide maps */
    CELL_LIMIT = 1 << 30,
    INSIDE = 64,
    WHOLE_ROW = 1 << 20,
    OUTSIDE = 2, /* entries of a store before those of the tile */
    DECAY_STEPS = 1024,
    WIDTHS = LOG_SCALE_MAX - LOG_SCALE_MIN + 1,
};

enum mode { BY_STEPS, BY_ROWS, AT_ONCE };

/* --- Functions of one number -------------------------------------------------------------------- */

static struct {
    int32_t value, slope;
} decay[DECAY_STEPS + 1];
static struct {
    int64_t value, slope;
} log_sigmoid[SIGMOID_STEPS + 1];
static int64_t log_width[WIDTHS];

/* The logistic function of a wide number, in units of 2^-22. */
INLINE int32_t logistic(int32_t x)
{
    int32_t z = x < -WIDE_REACH ? -WIDE_REACH : x > WIDE_REACH ? WIDE_REACH : x;
    z += WIDE_REACH;
    return sigmoid[z >> 6].value + (sigmoid[z >> 6].slope * (z & 63) >> 6);
}

/* In units of 2^-15, as are gates. */
INLINE int32_t hyperbolic_tangent(int32_t x)
{
    return (logistic(2 * x) - (1 << 21)) >> 6;
}

INLINE int32_t gate(int32_t x)
{
    return logistic(x) >> 7;
}

INLINE int32_t elu(int32_t x)
{
    int32_t z = (x < -WIDE_REACH ? -WIDE_REACH : x > 0 ? 0 : x) + WIDE_REACH;
    int32_t power = decay[z >> 6].value + (decay[z >> 6].slope * (z & 63) >> 6);
    return x > 0 ? x : (power - (1 << 18) + 32) >> 6;
}

/* To nearest, ties to even, of a number within +-2^51. */
INLINE double nearest(double x)
{
    const double shift = 6755399441055744.0; /* 1.5 * 2^52 */
    return (x + shift) - shift;
}

INLINE double within(double x, double largest)
{
    x = x < -largest ? -largest : x;
    return x > largest ? largest : x;
}

INLINE int32_t wide_sum(int32_t x, int32_t y)
{
    return (int32_t)clamped((int64_t)x + y, -LIMIT, LIMIT);
}

INLINE int16_t state(int32_t value, int32_t gate, int32_t unit)
{
    return (int16_t)(((int64_t)value * gate * unit + (1 << 29)) >> 30);
}

/* --- What nodes do to numbers, one instruction set after the other --------------------------------------------- */

#define CONCATENATED(a, b) a##_##b
#define NAMED(a, b) CONCATENATED(a, b)
#define BACKEND(function) NAMED(function, ISA)

struct lanes {
    int32_t of[BLOCK];
};

static inline struct lanes spread_pair(int32_t pair)
{
    struct lanes found;
    for (int c = 0; c < BLOCK; c++)
        found.of[c] = pair;
    return found;
}

static inline struct lanes loaded(const int16_t *from)
{
    struct lanes found;
    memcpy(&found, from, sizeof found);
    return found;
}

/* The two halves of each lane are numbers of 16 bits, in the order of this machine. */
static inline struct lanes dot(struct lanes total, struct lanes x, struct lanes y)
{
    int16_t a[2 * BLOCK], b[2 * BLOCK];
    memcpy(a, &x, sizeof a);
    memcpy(b, &y, sizeof b);
    for (int c = 0; c < BLOCK; c++)
        total.of[c] += a[2 * c] * b[2 * c] + a[2 * c + 1] * b[2 * c + 1];
    return total;
}

#define ISA portable
#define VECTOR struct lanes
#define PER_BLOCK 1
#define ROWS 1
#define BLOCKS 1
#define ALONE 1
#define NOTHING ((struct lanes){{0}})
#define LOAD(from) loaded(from)
#define STORE(to, x) memcpy(to, (x).of, sizeof(x).of)
#define SPLAT(pair) spread_pair(pair)
#define DOT dot
#include "kernels.h"
#undef ISA

#ifdef X86
#define ISA sse2
#define VECTOR __m128i
#define PER_BLOCK 4
#define ROWS 1
#define BLOCKS 1
#define ALONE 1
#define NOTHING _mm_setzero_si128()
#define LOAD(from) _mm_loadu_si128((const __m128i *)(from))
#define STORE(to, x) _mm_storeu_si128((__m128i *)(to), x)
#define SPLAT(pair) _mm_set1_epi32(pair)
#define DOT(total, x, w) _mm_add_epi32(total, _mm_madd_epi16(x, w))
#include "kernels.h"
#undef ISA

BEGIN_TARGET("avx2")
#define ISA avx2
#define VECTOR __m256i
#define PER_BLOCK 2
#define ROWS 2
#define BLOCKS 1
#define ALONE 2
#define NOTHING _mm256_setzero_si256()
#define LOAD(from) _mm256_loadu_si256((const __m256i *)(from))
#define STORE(to, x) _mm256_storeu_si256((__m256i *)(to), x)
#define SPLAT(pair) _mm256_set1_epi32(pair)
#define DOT(total, x, w) _mm256_add_epi32(total, _mm256_madd_epi16(x, w))
#include "kernels.h"
#undef ISA
END_TARGET

#ifdef HAS_AVX512VNNI
BEGIN_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#define ISA avx512vnni
#define VECTOR __m512i
#define PER_BLOCK 1
#define ROWS 4
#define BLOCKS 2
#define ALONE 4
#define NOTHING _mm512_setzero_si512()
#define LOAD(from) _mm512_loadu_si512(from)
#define STORE(to, x) _mm512_storeu_si512(to, x)
#define SPLAT(pair) _mm512_set1_epi32(pair)
#define DOT(total, x, w) _mm512_dpwssd_epi32(total, x, w)
#include "kernels.h"
#undef ISA
END_TARGET
#endif
#endif

struct backend {
    const char *name;
    void (*product)(const struct matrix *, int parts, const int16_t *x, int n, double *sums);
    void (*split)(const int16_t *x, int64_t n, int16_t *low, int16_t *high);
    void (*widen)(const double *, const double *bias, const double *scale, int n, int32_t *out);
    void (*add)(int32_t *total, const int32_t *x, int n);
    void (*activate)(
        int kind, const int32_t *x, const double *scale, double largest, int n, int16_t *out);
    void (*gate_tanh)(const int32_t *, const int32_t *gate, int32_t unit, int n, int16_t *out);
    void (*gate_linear)(const int32_t *, const int32_t *gate, int n, int32_t *out);
};

#define BACKEND_OF(isa)                                                                            \
    {                                                                                              \
        #isa, product_##isa, split_##isa, widen_##isa, add_##isa, activate_##isa, gate_tanh_##isa, \
            gate_linear_##isa                                                                      \
    }

/* Of the instruction sets that are here, the number-th one, fastest first; or NULL. */
static const struct backend *backend(int number)
{
    static const struct backend all[] = {
#ifdef X86
#ifdef HAS_AVX512VNNI
        BACKEND_OF(avx512vnni),
#endif
        BACKEND_OF(avx2),
        BACKEND_OF(sse2),
#endif
        BACKEND_OF(portable),
    };
    const int count = (int)(sizeof all / sizeof *all);
    for (int i = 0; i < count; i++) {
        int here = 1;
#ifdef X86
        __builtin_cpu_init();
        if (strcmp(all[i].name, "avx512vnni") == 0)
            here = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
                   && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
                   && __builtin_cpu_supports("avx512vnni");
        if (strcmp(all[i].name, "avx2") == 0)
            here = __builtin_cpu_supports("avx2");
#endif
        if (here && number-- == 0)
            return &all[i];
    }
    return NULL;
}

/* --- Evaluations ---------------------------------------------------------------------------------- */

/* Where a node's map lies. Row r is in the place of r & row_mask, column c in that of c & column_mask. */
struct map {
    int32_t height, width, row_mask, column_mask, pitch;
    char *store, *made;
    int32_t *cells;
};

struct set {
    int32_t n;
    int32_t *rows, *columns;
};

struct evaluation {
    const struct program *program;
    const struct backend *backend;
    int32_t height, width, channels, label, mode;
    int32_t next; /* row, of those that are known */
    struct map *maps;
    struct set *sets, pixels, one;
    int32_t most; /* positions in a set */
    int32_t groups_found;
    int16_t *x, *parts;
    double *sums;
    int32_t *spare;
    /* Of each pixel of a front: what the head knows. */
    int64_t *logits;
    int32_t *parameters;
    uint8_t *known; /* (colours, most) */
};

static int64_t entry_size(const struct node *node)
{
    return (int64_t)node->channels * (node->narrow ? sizeof(int16_t) : sizeof(int32_t));
}

static int32_t power_of_two(int32_t n)
{
    int32_t found = 1;
    while (found < n)
        found *= 2;
    return found;
}

/* Lay a map out: all of it, or what is kept. Returns its entries. */
static int64_t lay_out(const struct evaluation *ev, const struct node *node, struct map *map)
{
    const struct program *p = ev->program;
    int32_t rows, columns;
    map->height = ((ev->height - 1) >> node->level) + 1;
    map->width = ((ev->width + p->beyond - 1) >> node->level) + 1;
    rows = power_of_two(map->height);
    columns = power_of_two(map->width);
    if (node->op != INPUT && node->op != GIVEN && ev->mode != AT_ONCE) {
        if ((ev->mode == BY_ROWS || p->lag == 0) && power_of_two(p->kept_rows) < rows)
            rows = power_of_two(p->kept_rows);
        else if (ev->mode == BY_STEPS && p->lag && power_of_two(p->kept_columns) < columns)
            columns = power_of_two(p->kept_columns);
    }
    map->row_mask = rows - 1;
    map->column_mask = columns - 1;
    map->pitch = columns < map->width ? columns : map->width;
    return OUTSIDE + (int64_t)(rows < map->height ? rows : map->height) * map->pitch;
}

static int64_t filled(int64_t size)
{
    return (size + 63) & ~(int64_t)63;
}

static int32_t largest_of(int32_t x, int32_t y)
{
    return x > y ? x : y;
}

/* The most positions that are in a set at a time. */
static int32_t most_positions(const struct program *p, int32_t mode, int32_t height, int32_t width)
{
    int32_t whole = width + p->beyond, most = 1, ahead = 0;
    if (mode != BY_STEPS)
        return whole;
    for (int i = 0; i < p->leads; i++) {
        if (p->lead[i].columns >= WHOLE_ROW)
            most = whole;
        else
            ahead = largest_of(ahead, p->lead[i].columns);
    }
    if (p->lag)
        most = largest_of(most, height < width / p->lag + 1 ? height : width / p->lag + 1);
    return most + ahead + 1;
}

/* Give each part of an evaluation its place from `at` on; without memory, count. Returns the end. */
static int64_t place(struct evaluation *ev, char *memory)
{
    const struct program *p = ev->program;
    int64_t at = 0, most = ev->most, pairs = 1, outputs = BLOCK;
    for (int i = 0; i < p->nodes; i++)
        for (int g = 0; p->node[i].matrices && g <= (p->groups > 1 ? p->groups : 0); g++) {
            const struct matrix *matrix = &p->node[i].matrices[g];
            pairs = matrix->pairs > pairs ? matrix->pairs : pairs;
            outputs = matrix->outputs > outputs ? matrix->outputs : outputs;
        }
    int64_t each = p->output == MIXTURE ? 3 * p->components : 256;
#define PART(to, size)                                                                             \
    do {                                                                                           \
        if (memory)                                                                                \
            (to) = (void *)(memory + at);                                                          \
        at += filled(size);                                                                        \
    } while (0)
    PART(ev->maps, p->nodes * (int64_t)sizeof *ev->maps);
    PART(ev->sets, p->leads * (int64_t)sizeof *ev->sets);
    for (int i = 0; i < p->leads; i++) {
        struct set unused, *set = memory ? &ev->sets[i] : &unused;
        PART(set->rows, most * (int64_t)sizeof *set->rows);
        PART(set->columns, most * (int64_t)sizeof *set->columns);
    }
    PART(ev->pixels.rows, most * (int64_t)sizeof *ev->pixels.rows);
    PART(ev->pixels.columns, most * (int64_t)sizeof *ev->pixels.columns);
    PART(ev->one.rows, (int64_t)sizeof *ev->one.rows);
    PART(ev->one.columns, (int64_t)sizeof *ev->one.columns);
    PART(ev->x, CHUNK * 2 * pairs * (int64_t)sizeof *ev->x);
    PART(ev->parts, 2 * CHUNK * 2 * pairs * (int64_t)sizeof *ev->parts);
    PART(ev->sums, CHUNK * outputs * (int64_t)sizeof *ev->sums);
    PART(ev->spare, CHUNK * outputs * (int64_t)sizeof *ev->spare);
    PART(ev->logits, most * p->components * (int64_t)sizeof *ev->logits);
    PART(ev->parameters, most * each * (int64_t)sizeof *ev->parameters);
    PART(ev->known, most * p->colours);
    char *buffers;
    PART(buffers, most * p->buffers * (int64_t)sizeof(int32_t));
    for (int i = 0; i < p->nodes; i++) {
        const struct node *node = &p->node[i];
        struct map unused, *map = memory ? &ev->maps[i] : &unused;
        int64_t entries = lay_out(ev, node, map);
        if (memory)
            map->made = buffers + most * node->buffer * (int64_t)sizeof(int32_t);
        if (node->stored || ev->mode == AT_ONCE)
            PART(map->store, entries * entry_size(node));
        if (node->op == LSTM)
            PART(map->cells, entries * node->channels * (int64_t)sizeof *map->cells);
    }
#undef PART
    return at;
}

/* How many bytes an evaluation of a tile takes, from the start of struct evaluation on. */
static int64_t size_of(struct evaluation *ev)
{
    return filled(sizeof *ev) + place(ev, NULL);
}

EXPORT int64_t program_memory(const struct program *program, int mode, int height, int width)
{
    struct evaluation ev = {.program = program, .height = height, .width = width, .mode = mode};
    ev.most = most_positions(program, mode, height, width);
    return size_of(&ev) + 64;
}

/* An evaluation of a tile in `memory`, of program_memory bytes, all zero. Returns its address. */
EXPORT struct evaluation *program_open(const struct program *program, int isa, int mode, int height,
    int width, int channels, int label, char *memory)
{
    memory += -(uintptr_t)memory & 63;
    struct evaluation *ev = (void *)memory;
    ev->program = program;
    ev->backend = backend(isa);
    ev->height = height;
    ev->width = width;
    ev->channels = channels;
    ev->label = label;
    ev->mode = mode;
    ev->most = most_positions(program, mode, height, width);
    place(ev, memory + filled(sizeof *ev));
    ev->one.n = 1;
    for (int i = 0; i < program->nodes; i++) {
        const struct node *node = &program->node[i];
        if (node->op == LSTM) {
            memcpy(ev->maps[i].store + entry_size(node), node->hidden, entry_size(node));
            memcpy(ev->maps[i].cells + node->channels, node->cell,
                node->channels * sizeof *node->cell);
        }
    }
    return ev;
}

/* Floats are rounded to nearest, whatever the program around us may have asked for. */
static void enter(fenv_t *before)
{
    fegetenv(before);
    fesetenv(FE_DFL_ENV);
}

static inline int64_t entry_of(const struct map *map, int32_t row, int32_t column)
{
    return OUTSIDE + (int64_t)(row & map->row_mask) * map->pitch + (column & map->column_mask);
}

static inline int is_inside(const struct map *map, int32_t row, int32_t column)
{
    return row >= 0 && row < map->height && column >= 0 && column < map->width;
}

/* The entry that a tap reads of node j's map. */
static inline const char *tapped(
    const struct evaluation *ev, int32_t j, int32_t row, int32_t column)
{
    const struct map *map = &ev->maps[j];
    int64_t entry = is_inside(map, row, column) ? entry_of(map, row, column) : 0;
    return map->store + entry * entry_size(&ev->program->node[j]);
}

/* The same of an LSTM's states: which entry. */
static inline int64_t state_entry(
    const struct map *map, int32_t kind, int32_t row, int32_t column)
{
    if (is_inside(map, row, column))
        return entry_of(map, row, column);
    return kind != ROW || (row < 0 && column >= 0 && column < map->width);
}

/* What node i reads of its k-th input, all channels, at a position that has its own map's k-th tap. */
static inline const char *input_of(
    const struct evaluation *ev, const struct node *node, int k, const struct set *set, int at)
{
    int32_t j = node->input[k];
    if (node->here[k] && ev->mode != AT_ONCE)
        return ev->maps[j].made + at * entry_size(&ev->program->node[j]);
    return tapped(
        ev, j, set->rows[at] + node->tap[2 * k], set->columns[at] + node->tap[2 * k + 1]);
}

/* A linear node's inputs at one position, side by side. */
static void gather(const struct evaluation *ev, const struct node *node, const struct set *set, int at,
    int16_t *out)
{
    int32_t j = node->input[0], row = set->rows[at], column = set->columns[at];
    int64_t size = entry_size(&ev->program->node[j]);
    if (node->here[0] && ev->mode != AT_ONCE) {
        memcpy(out, ev->maps[j].made + at * size, size);
        return;
    }
    for (int t = 0; t < node->taps; t++, out += ev->program->node[j].channels) {
        int32_t r = node->tap[2 * t], c = node->tap[2 * t + 1];
        if (node->stride == -2) {
            r += row, c += column;
            if ((r | c) & 1)
                memset(out, 0, size);
            else
                memcpy(out, tapped(ev, j, r >> 1, c >> 1), size);
        } else {
            r += node->stride * row, c += node->stride * column;
            memcpy(out, tapped(ev, j, r, c), size);
        }
    }
}

/* ev->spare (n, outputs) = what is in ev->x (n, 2 * pairs) times the matrix, wide. */
static void multiply(struct evaluation *ev, const struct matrix *matrix, int n)
{
    int parts = ev->program->bits == 8 ? 1 : 2;
    int64_t size = 2 * (int64_t)matrix->pairs;
    const int16_t *from = ev->x;
    if (parts == 2) {
        ev->backend->split(ev->x, n * size, ev->parts, ev->parts + CHUNK * size);
        from = ev->parts;
    }
    ev->backend->product(matrix, parts, from, n, ev->sums);
    const double *bias = matrix->bias;
    if (matrix->classes > 1)
        bias += (int64_t)ev->label * matrix->outputs;
    for (int i = 0; i < n; i++)
        ev->backend->widen(ev->sums + (int64_t)i * matrix->outputs, bias, matrix->scale, matrix->outputs,
            ev->spare + (int64_t)i * matrix->outputs);
}

static void put_run(int32_t *to, const int32_t *from, const struct some *some)
{
    for (int k = 0; k < some->count; k++) {
        memcpy(to + some->runs[k].start, from, some->runs[k].count * sizeof *to);
        from += some->runs[k].count;
    }
}

static void make_linear(struct evaluation *ev, int i, int group, const struct set *set)
{
    const struct node *node = &ev->program->node[i];
    const struct matrix *matrix = &node->matrices[group];
    int64_t size = 2 * (int64_t)matrix->pairs;
    int32_t *out = (int32_t *)ev->maps[i].made;
    int64_t inputs = (int64_t)node->taps * ev->program->node[node->input[0]].channels;
    for (int first = 0; first < set->n; first += CHUNK) {
        int some = set->n - first < CHUNK ? set->n - first : CHUNK;
        for (int k = 0; k < some; k++) {
            gather(ev, node, set, first + k, ev->x + k * size);
            if (inputs < size)
                ev->x[k * size + inputs] = 0;
        }
        multiply(ev, matrix, some);
        for (int k = 0; k < some; k++)
            put_run(out + (int64_t)(first + k) * node->channels,
                ev->spare + (int64_t)k * matrix->outputs, &node->columns[group]);
    }
}

/* The channels from `start` on of a node without a matrix, at one position. */
static void make(const struct evaluation *ev, const struct node *node, const struct set *set, int at,
    int start, int n, char *made)
{
    const struct program *p = ev->program;
    const int32_t *x = (const int32_t *)input_of(ev, node, 0, set, at);
    int32_t *wide = (int32_t *)made;
    int16_t *narrow = (int16_t *)made;
    const double largest = p->bits == 8 ? 127 : 32767;
    switch (node->op) {
    case ADD:
        if (node->narrow) {
            memcpy(narrow + start, (const int16_t *)x + start, n * sizeof *narrow);
            for (int k = 1; k < node->inputs; k++) {
                const int16_t *y = (const int16_t *)input_of(ev, node, k, set, at);
                for (int c = start; c < start + n; c++)
                    narrow[c] = (int16_t)(narrow[c] + y[c]);
            }
            break;
        }
        memcpy(wide + start, x + start, n * sizeof *wide);
        for (int k = 1; k < node->inputs; k++)
            ev->backend->add(
                wide + start, (const int32_t *)input_of(ev, node, k, set, at) + start, n);
        break;
    case ACTIVATE:
        if (node->kind != CONCAT_ELU) {
            ev->backend->activate(
                node->kind, x + start, node->scale + start, largest, n, narrow + start);
        } else { /* all of it */
            int half = n / 2;
            ev->backend->activate(ELU, x, node->scale, largest, half, narrow);
            ev->backend->activate(
                NEGATIVE_ELU, x, node->scale + half, largest, half, narrow + half);
        }
        break;
    case GATE:
        if (node->kind == GATE_TANH)
            ev->backend->gate_tanh(
                x + start, x + node->channels + start, p->state_unit, n, narrow + start);
        else
            ev->backend->gate_linear(x + start, x + node->channels + start, n, wide + start);
        break;
    case SLICE:
        memcpy(wide, x + node->start, n * sizeof *wide);
        break;
    case CAT:
        for (int k = 0; k < node->inputs; k++) {
            int32_t channels = p->node[node->input[k]].channels;
            memcpy(wide, input_of(ev, node, k, set, at), channels * sizeof *wide);
            wide += channels;
        }
        break;
    }
}

/* One step of an LSTM, at positions that do not depend on each other. */
static void make_lstm(struct evaluation *ev, int i, int group, const struct set *set)
{
    static const int32_t states[][3][2] = {
        [ROW] = {{-1, -1}, {-1, 0}, {-1, 1}},
        [LEFT] = {{-1, 0}, {0, -1}},
        [RIGHT_TO_LEFT] = {{-1, 0}, {0, 1}},
    };
    static const int32_t cell_of[][2] = {
        [ROW] = {-1, 0}, [LEFT] = {0, -1}, [RIGHT_TO_LEFT] = {0, 1}};
    const struct node *node = &ev->program->node[i];
    const struct matrix *matrix = &node->matrices[group];
    const struct some *columns = &node->columns[group];
    const struct map *map = &ev->maps[i];
    const int32_t h = node->channels, kind = node->kind, count = columns->channels;
    const int64_t size = 2 * (int64_t)matrix->pairs;
    const int taps = kind == ROW ? 3 : 2;
    int16_t *store = (int16_t *)map->store;
    for (int first = 0; first < set->n; first += CHUNK) {
        int some = set->n - first < CHUNK ? set->n - first : CHUNK;
        for (int k = 0; k < some; k++) {
            int32_t row = set->rows[first + k], column = set->columns[first + k];
            int16_t *x = ev->x + k * size;
            for (int t = 0; t < taps; t++, x += h) {
                const int32_t *tap = states[kind][t];
                int64_t entry = state_entry(map, kind, row + tap[0], column + tap[1]);
                memcpy(x, store + entry * h, h * sizeof *x);
            }
            if (taps * h < size)
                *x = 0;
        }
        multiply(ev, matrix, some);
        for (int k = 0; k < some; k++) {
            int at = first + k;
            int32_t row = set->rows[at], column = set->columns[at];
            const int32_t *recurrent = ev->spare + (int64_t)k * matrix->outputs;
            int32_t j = node->input[0];
            const int32_t *sums = (const int32_t *)(kind == RIGHT_TO_LEFT || ev->mode == AT_ONCE
                                                        ? tapped(ev, j, row, column)
                                                        : ev->maps[j].made + at * (int64_t)16 * h);
            int64_t own = entry_of(map, row, column);
            int64_t entry = state_entry(map, kind, row + cell_of[kind][0], column + cell_of[kind][1]);
            const int32_t *cells = map->cells + entry * h;
            int16_t *made = (int16_t *)map->made + (int64_t)at * h;
            for (int r = 0, q = 0; r < columns->count; r++)
                for (int c = columns->runs[r].start, end = c + columns->runs[r].count; c < end; c++, q++) {
                    int32_t out = wide_sum(sums[c], recurrent[q]);
                    int32_t forget = wide_sum(sums[h + c], recurrent[count + q]);
                    int32_t enter = wide_sum(sums[2 * h + c], recurrent[2 * count + q]);
                    int32_t content = wide_sum(sums[3 * h + c], recurrent[3 * count + q]);
                    int64_t cell = (int64_t)gate(forget) * cells[c] >> 15;
                    cell += (int64_t)gate(enter) * hyperbolic_tangent(content) >> 14;
                    cell = clamped(cell, -CELL_LIMIT, CELL_LIMIT);
                    int32_t value = hyperbolic_tangent((int32_t)(cell >> 4));
                    map->cells[own * h + c] = (int32_t)cell;
                    made[c] = state(value, gate(out), ev->program->state_unit);
                    store[own * h + c] = made[c];
                }
        }
    }
}

/* Some channels of node i's map, at these positions. */
static void evaluate(struct evaluation *ev, int i, int group, const struct set *set)
{
    const struct node *node = &ev->program->node[i];
    const struct some *columns = &node->columns[group];
    const struct map *map = &ev->maps[i];
    const int64_t size = entry_size(node);
    const int width = node->narrow ? sizeof(int16_t) : sizeof(int32_t);
    if (columns->channels == 0)
        return;
    if (node->op == LSTM) {
        make_lstm(ev, i, group, set);
        return;
    }
    if (node->op == LINEAR)
        make_linear(ev, i, group, set);
    for (int at = 0; at < set->n; at++) {
        char *made = map->made + at * size;
        int64_t entry = entry_of(map, set->rows[at], set->columns[at]);
        for (int k = 0; k < columns->count; k++) {
            const struct run *run = &columns->runs[k];
            if (node->op != LINEAR)
                make(ev, node, set, at, run->start, run->count, made);
            if (set->rows[at] < node->blank)
                memset(made + run->start * width, 0, (size_t)run->count * width);
            if (node->stored || ev->mode == AT_ONCE)
                memcpy(map->store + entry * size + run->start * width, made + run->start * width,
                    (size_t)run->count * width);
        }
    }
}

/* --- In which order --------------------------------------------------------------------------------- */

static void put(struct set *set, int32_t row, int32_t column)
{
    set->rows[set->n] = row;
    set->columns[set->n++] = column;
}

static void evaluate_at(struct evaluation *ev, int i, int32_t row, int32_t column)
{
    ev->one.rows[0] = row;
    ev->one.columns[0] = column;
    evaluate(ev, i, 0, &ev->one);
}

/* All of a row of node i's map. */
static void evaluate_row(struct evaluation *ev, int i, int32_t row)
{
    const struct node *node = &ev->program->node[i];
    int32_t width = ev->maps[i].width;
    if (node->op == LSTM && node->kind == RIGHT_TO_LEFT) {
        for (int32_t column = width; column-- > 0;)
            evaluate_at(ev, i, row, column);
        return;
    }
    ev->pixels.n = 0;
    if (node->op != LSTM || node->kind == ROW) {
        for (int32_t column = 0; column < width; column++)
            put(&ev->pixels, row, column);
        evaluate(ev, i, 0, &ev->pixels);
        return;
    }
    /* Each position reads the one to its left; the sums of the row are already made. */
    const struct map *sums = &ev->maps[node->input[0]];
    char *made = sums->made;
    for (int32_t column = 0; column < width; column++) {
        ev->maps[node->input[0]].made = made + column * entry_size(&ev->program->node[node->input[0]]);
        char *own = ev->maps[i].made;
        ev->maps[i].made = own + column * entry_size(node);
        evaluate_at(ev, i, row, column);
        ev->maps[i].made = own;
    }
    ev->maps[node->input[0]].made = made;
}

static int is_made(const struct node *node)
{
    return node->op != INPUT && node->op != GIVEN;
}

static int is_late(const struct node *node)
{
    return node->op == LSTM && node->kind == RIGHT_TO_LEFT;
}

/* Let LSTMs from right to left go through a row that is known now. */
static void finish_row(struct evaluation *ev, int32_t row)
{
    const struct program *p = ev->program;
    int32_t width = ev->width + p->beyond;
    for (int i = 0; p->beyond && i < p->nodes; i++)
        if (is_made(&p->node[i]) && !is_late(&p->node[i]))
            evaluate_at(ev, i, row, width - 1);
    for (int32_t column = width; column-- > 0;)
        for (int i = 0; i < p->nodes; i++)
            if (is_late(&p->node[i]))
                evaluate_at(ev, i, row, column);
}

/* Begin a front. */
static void begin(struct evaluation *ev)
{
    const struct program *p = ev->program;
    const struct set *pixels = &ev->pixels;
    int late = 0;
    for (int i = 0; i < p->nodes; i++)
        late |= is_late(&p->node[i]);
    for (int at = 0; late && at < pixels->n; at++)
        if (pixels->columns[at] == 0 && pixels->rows[at] > 0)
            finish_row(ev, pixels->rows[at] - 1);
    for (int s = 0; s < p->leads; s++) {
        struct set *set = &ev->sets[s];
        int32_t level = p->lead[s].level, ahead = p->lead[s].columns, mask = (1 << level) - 1;
        int32_t width = ((ev->width + p->beyond - 1) >> level) + 1;
        set->n = 0;
        for (int at = 0; at < pixels->n; at++) {
            int32_t row = pixels->rows[at], column = pixels->columns[at];
            if ((row & mask) || (ahead < WHOLE_ROW ? column & mask : column))
                continue;
            row >>= level, column >>= level;
            int32_t first = column == 0 ? 0 : column + ahead, last = column + ahead;
            if (last >= width)
                last = width - 1;
            for (int32_t c = first; c <= last && set->n < ev->most; c++)
                put(set, row, c);
        }
    }
    ev->groups_found = 0;
}

/* Evaluate what is not known yet of the nodes, up to this colour. */
static void find(struct evaluation *ev, int channel)
{
    const struct program *p = ev->program;
    while (ev->groups_found <= channel && ev->groups_found < p->groups) {
        int group = p->groups > 1 ? ++ev->groups_found : (ev->groups_found++, 0);
        for (int i = 0; i < p->nodes; i++)
            if (is_made(&p->node[i]) && !is_late(&p->node[i]) && ev->sets[p->node[i].set].n)
                evaluate(ev, i, group, &ev->sets[p->node[i].set]);
    }
}

/* --- Heads: from the last map to what the coder wants ------------------------------------------------ */

static int64_t log_of_sigmoid(int64_t z)
{
    z >>= 14; /* of 28 bits behind the point 14 are kept */
    int64_t limit = 16 << 14, inside = clamped(z, -limit, limit);
    int64_t at = (inside + limit) >> 8, beyond = z + limit < 0 ? z + limit : 0;
    return log_sigmoid[at].value + (log_sigmoid[at].slope * (inside & 255) >> 8) + (beyond >> 2);
}

/* Of a value under a discretized logistic, in units of 1 / 256 nat. */
static int64_t log_probability(int value, int64_t mean, int64_t log_scale)
{
    int64_t inverse = inverse_scale[log_scale - LOG_SCALE_MIN], middle = value * 256 - mean;
    int64_t first = log_of_sigmoid((middle + 128) * inverse);
    int64_t last = log_of_sigmoid(-(middle - 128) * inverse);
    int64_t found = first + last + log_width[log_scale - LOG_SCALE_MIN];
    found = value == 0 ? first : value == 255 ? last : found;
    return (found + 8) >> 4;
}

static int32_t parameters_each(const struct program *p)
{
    return p->output == MIXTURE ? 3 * p->components : 256;
}

/* The parameters of one sub-pixel from a row of the last map. `out` holds those of the one before,
 * `known` the values so far, `most` apart. */
static void head(const struct program *p, const int32_t *row, int channel, const uint8_t *known,
    int32_t most, int64_t *logits, int32_t *out)
{
    const int k = p->components, colours = p->colours;
    if (p->output == BINARY) {
        for (int v = 0; v < 256; v++)
            out[v] = -(1 << 30);
        out[0] = 0;
        out[255] = row[channel];
    } else if (p->output == SOFTMAX) {
        memcpy(out, row + 256 * channel, 256 * sizeof *out);
        const int32_t *pair = row + 256 * (colours + channel * (channel - 1) / 2);
        if (p->coupled && channel > 0)
            for (int v = 0; v < 256; v++) {
                int64_t total = (int64_t)out[v] * 2048;
                for (int c = 0; c < channel; c++)
                    total += (int64_t)pair[256 * c + v] * (known[c * most] - 128);
                out[v] = (int32_t)((total + 1024) >> 11);
            }
    } else {
        int64_t top = INT64_MIN;
        for (int i = 0; i < k; i++) {
            if (channel == 0)
                logits[i] = row[i];
            else
                logits[i] += log_probability(known[(channel - 1) * most], out[k + i], out[2 * k + i]);
            top = logits[i] > top ? logits[i] : top;
        }
        for (int i = 0; i < k; i++) {
            if (channel > 0) {
                logits[i] -= top;
                logits[i] = logits[i] < -(1 << 30) ? -(1 << 30) : logits[i];
            }
            int64_t mean = (int64_t)row[(1 + channel) * k + i] + 128 * 256;
            const int32_t *pair = row + (1 + 2 * colours + channel * (channel - 1) / 2) * k + i;
            for (int c = 0; c < channel; c++, pair += k)
                mean += ((int64_t)hyperbolic_tangent(*pair) * (known[c * most] - 128) + 64) >> 7;
            out[i] = (int32_t)logits[i];
            out[k + i] = (int32_t)clamped(mean, -MEAN_LIMIT, MEAN_LIMIT);
            out[2 * k + i]
                = (int32_t)clamped(row[(1 + colours + channel) * k + i], LOG_SCALE_MIN, LOG_SCALE_MAX);
        }
    }
}

/* Of the front's pixels, or of a row's. */
static void find_parameters(struct evaluation *ev, int channel)
{
    const struct program *p = ev->program;
    int32_t each = parameters_each(p);
    const int32_t *rows = (const int32_t *)ev->maps[p->nodes - 1].made;
    for (int at = 0; at < ev->pixels.n; at++)
        head(p, rows + (int64_t)at * p->node[p->nodes - 1].channels, channel, ev->known + at, ev->most,
            ev->logits + (int64_t)at * p->components, ev->parameters + (int64_t)at * each);
}

/* Take in the front's values of a sub-pixel, which are in ev->known. */
static void learn(struct evaluation *ev, int channel)
{
    const struct program *p = ev->program;
    const struct map *map = &ev->maps[0];
    for (int at = 0; at < ev->pixels.n; at++) {
        int64_t entry = entry_of(map, ev->pixels.rows[at], ev->pixels.columns[at]);
        int16_t *store = (int16_t *)map->store + entry * (p->colours + 1);
        int16_t value = (int16_t)(ev->known[channel * ev->most + at] - 128);
        for (int c = 0; c < p->colours; c++)
            if (c == channel || ev->channels < p->colours)
                store[c] = value;
        store[p->colours] = INSIDE;
    }
    if (ev->channels < p->colours && p->groups > 1)
        find(ev, p->groups - 1);
}

/* --- What Python calls -------------------------------------------------------------------------------- */

EXPORT void program_tables(
    const int64_t *exp, const int64_t *inverse, const int64_t *sigmoids, const int64_t *decays)
{
    fill_tables(exp, inverse, sigmoids);
    for (int i = 0; i <= DECAY_STEPS; i++) {
        decay[i].value = (int32_t)decays[i];
        decay[i].slope = i < DECAY_STEPS ? (int32_t)(decays[i + 1] - decays[i]) : 0;
    }
}

/* Those that mixtures of several colours need besides. */
EXPORT void program_logarithms(const int64_t *log_sigmoids, const int64_t *widths)
{
    for (int i = 0; i <= SIGMOID_STEPS; i++) {
        log_sigmoid[i].value = log_sigmoids[i];
        log_sigmoid[i].slope = i < SIGMOID_STEPS ? log_sigmoids[i + 1] - log_sigmoids[i] : 0;
    }
    memcpy(log_width, widths, sizeof log_width);
}

EXPORT const char *program_isa(int number)
{
    const struct backend *found = backend(number);
    return found == NULL ? NULL : found->name;
}

/* A product of n rows, at most CHUNK, with a matrix: (n, outputs) sums. */
EXPORT void program_product(
    const struct matrix *matrix, int isa, int bits, int n, const int16_t *x, double *sums,
    int16_t *parts)
{
    int64_t size = 2 * (int64_t)matrix->pairs;
    if (bits == 8)
        memcpy(parts, x, n * size * sizeof *x);
    else
        backend(isa)->split(x, n * size, parts, parts + CHUNK * size);
    backend(isa)->product(matrix, bits == 8 ? 1 : 2, parts, n, sums);
}

EXPORT size_t program_sizes(void)
{
    return sizeof(struct program) + 256 * sizeof(struct node) + 65536 * sizeof(struct matrix);
}

/* Set the map (rows, columns, channels) of an input, or of what is given. */
EXPORT void program_tell(
    struct evaluation *ev, int node, const int16_t *values, int rows, int columns)
{
    const struct map *map = &ev->maps[node];
    int64_t size = entry_size(&ev->program->node[node]);
    for (int r = 0; r < rows && r < map->height; r++)
        for (int c = 0; c < columns && c < map->width; c++)
            memcpy(map->store + entry_of(map, r, c) * size,
                (const char *)values + ((int64_t)r * columns + c) * size, size);
}

/* All of a program whose last map is narrow and given to another one: (height, width, channels). */
EXPORT void program_map(struct evaluation *ev, int16_t *out)
{
    const struct program *p = ev->program;
    const struct map *last = &ev->maps[p->nodes - 1];
    int64_t size = entry_size(&p->node[p->nodes - 1]);
    fenv_t before;
    enter(&before);
    for (int i = 0; i < p->nodes; i++)
        for (int32_t row = 0; is_made(&p->node[i]) && row < ev->maps[i].height; row++)
            evaluate_row(ev, i, row);
    for (int r = 0; r < ev->height; r++)
        for (int c = 0; c < ev->width; c++)
            memcpy((char *)out + ((int64_t)r * ev->width + c) * size,
                last->store + entry_of(last, r, c) * size, size);
    fesetenv(&before);
}

/* The parameters (rows * width, channels, each) of the next rows, all of whose pixels are known. */
EXPORT void program_score(struct evaluation *ev, int rows, const uint8_t *pixels, int32_t *out)
{
    const struct program *p = ev->program;
    const int32_t each = parameters_each(p);
    fenv_t before;
    enter(&before);
    for (int32_t row = ev->next; row < ev->next + rows; row++) {
        for (int i = 0; i < p->nodes; i++)
            if (is_made(&p->node[i]) && (row & ((1 << p->node[i].level) - 1)) == 0)
                evaluate_row(ev, i, row >> p->node[i].level);
        ev->pixels.n = ev->width;
        for (int channel = 0; channel < ev->channels; channel++) {
            find_parameters(ev, channel);
            for (int at = 0; at < ev->width; at++) {
                memcpy(out + ((int64_t)at * ev->channels + channel) * each,
                    ev->parameters + (int64_t)at * each, each * sizeof *out);
                ev->known[channel * ev->most + at] = pixels[at * ev->channels + channel];
            }
        }
        pixels += (int64_t)ev->width * ev->channels;
        out += (int64_t)ev->width * ev->channels * each;
    }
    ev->next += rows;
    fesetenv(&before);
}

/* Begin a front of n pixels; 0 if there is no room for so many. */
EXPORT int program_select(struct evaluation *ev, int n, const int32_t *rows, const int32_t *columns)
{
    fenv_t before;
    if (n > ev->most)
        return 0;
    ev->pixels.n = 0;
    for (int at = 0; at < n; at++)
        put(&ev->pixels, rows[at], columns[at]);
    enter(&before);
    begin(ev);
    fesetenv(&before);
    return 1;
}

/* (n, each) of a sub-pixel of the front. */
EXPORT void program_parameters(struct evaluation *ev, int channel, int32_t *out)
{
    fenv_t before;
    enter(&before);
    find(ev, channel);
    find_parameters(ev, channel);
    memcpy(out, ev->parameters,
        (int64_t)ev->pixels.n * parameters_each(ev->program) * sizeof *out);
    fesetenv(&before);
}

/* The front's values (n,) of that sub-pixel. */
EXPORT void program_reveal(struct evaluation *ev, int channel, const uint8_t *values)
{
    fenv_t before;
    enter(&before);
    memcpy(ev->known + channel * ev->most, values, ev->pixels.n);
    learn(ev, channel);
    fesetenv(&before);
}

/* Decode a nibble of a softmax: of 16 sums of `step` values each, from `first` on; -1 if damaged. */
static int decode_softmax(struct decoder *decoder, const int32_t *logits, int first, int step)
{
    int64_t c[NIBBLES + 1], q = quantile(decoder), start = 0, end = 0;
    int symbol = 0;
    if (is_damaged(q))
        return -1;
    softmax_sums(logits, largest(logits), first, step, c);
    for (;; symbol++, start = end) {
        end = spread(c[symbol + 1], 0, c[NIBBLES], symbol + 1);
        if (symbol == NIBBLES - 1 || end + symbol + 2 > q)
            break;
    }
    advance(decoder, start + symbol + 1, end - start + 1);
    return symbol;
}

/* Decode the front's values of a sub-pixel; 0 if they cannot be there. */
static int decode_front(struct evaluation *ev, int channel, struct decoder *decoder,
    struct component *components, int *high, struct span *spans)
{
    const struct program *p = ev->program;
    const int k = p->components, n = ev->pixels.n, each = parameters_each(p);
    uint8_t *values = ev->known + channel * ev->most;
    for (int at = 0; at < n; at++) {
        const int32_t *parameters = ev->parameters + (int64_t)at * each;
        if (p->output == MIXTURE) {
            int likely = mixture(parameters, k, components + (int64_t)at * k);
            if (!decode_high(decoder, components + (int64_t)at * k, k, likely, &spans[at]))
                return 0;
        } else {
            high[at] = decode_softmax(decoder, parameters, 0, 16);
            if (high[at] < 0)
                return 0;
        }
    }
    for (int at = 0; at < n; at++) {
        if (p->output == MIXTURE) {
            if (!decode_low(decoder, components + (int64_t)at * k, k, &spans[at], &values[at]))
                return 0;
        } else {
            int low = decode_softmax(
                decoder, ev->parameters + (int64_t)at * each, 16 * high[at], 1);
            if (low < 0)
                return 0;
            values[at] = (uint8_t)(16 * high[at] + low);
        }
    }
    return 1;
}

/* Decode a tile into `pixels` (height, width, channels), those that are `known` (height, width)
 * excepted; `known` may be NULL, and goes with programs without a lag. `state` is the decoder's, see
 * decoder_decode. Returns 1 if the payload is damaged, 2 if there is no memory. */
EXPORT int program_decode(struct evaluation *ev, const uint8_t *payload, size_t length,
    uint64_t *decoder_state, const uint8_t *known, uint8_t *pixels)
{
    const struct program *p = ev->program;
    const int64_t lag = p->lag ? p->lag : ev->width, last = ev->width - 1 + lag * (ev->height - 1);
    uint64_t read = decoder_state[2] < length ? decoder_state[2] : length;
    struct decoder decoder
        = {decoder_state[0], decoder_state[1], payload + read, payload + length, decoder_state[2]};
    int result = 0;
    fenv_t before;
    struct component *components = malloc(((size_t)ev->most * p->components + 1) * sizeof *components);
    int *high = malloc(ev->most * sizeof *high);
    struct span *spans = malloc(ev->most * sizeof *spans);
    if (components == NULL || high == NULL || spans == NULL) {
        free(components), free(high), free(spans);
        return 2;
    }
    enter(&before);
    for (int64_t step = 0; step <= last && result == 0; step++) {
        int64_t first = step < ev->width ? 0 : (step - ev->width + lag) / lag;
        ev->pixels.n = 0;
        for (int64_t row = first; row < ev->height && row * lag <= step; row++)
            put(&ev->pixels, (int32_t)row, (int32_t)(step - row * lag));
        if (ev->pixels.n == 0)
            continue;
        begin(ev);
        for (int channel = 0; channel < ev->channels && result == 0; channel++) {
            uint8_t *at = pixels + channel;
            int64_t place = ((int64_t)ev->pixels.rows[0] * ev->width + ev->pixels.columns[0]);
            find(ev, channel);
            if (known != NULL && known[place]) {
                ev->known[channel * ev->most] = at[place * ev->channels];
            } else {
                find_parameters(ev, channel);
                result = !decode_front(ev, channel, &decoder, components, high, spans);
            }
            for (int i = 0; i < ev->pixels.n && result == 0; i++) {
                place = (int64_t)ev->pixels.rows[i] * ev->width + ev->pixels.columns[i];
                at[place * ev->channels] = ev->known[channel * ev->most + i];
            }
            learn(ev, channel);
        }
    }
    fesetenv(&before);
    free(components), free(high), free(spans);
    decoder_state[0] = decoder.offset;
    decoder_state[1] = decoder.range;
    decoder_state[2] = decoder.position;
    return result;
}
