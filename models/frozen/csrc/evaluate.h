/* An evaluation of a tile: where its maps lie, and how some channels of a map are made at some
 * positions.
 *
 * A map is stored if it is read elsewhere than where it is being made: as many of its rows and
 * columns as are still to be read. In front of them a store holds zeros, for what lies outside of the
 * tile, and the states that an LSTM has learnt for that. No position is used unchecked: a node reads
 * entries of a store only, whatever its taps are. */

#ifndef PIXELZIP_EVALUATE_H
#define PIXELZIP_EVALUATE_H

#include "nodes.h"

#include <fenv.h>

enum {
    WHOLE_ROW = 1 << 20,
    OUTSIDE = 2, /* entries of a store before those of the tile */
};

enum mode { BY_STEPS, BY_ROWS, AT_ONCE };

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

#endif
