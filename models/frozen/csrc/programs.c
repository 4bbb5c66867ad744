/* The compiled evaluation of frozen programs: in which order, and what Python calls. See programs.h.
 *
 * Three ways to go through a tile, all of them over the same `evaluate`, which makes some channels of
 * a node's map at some positions:
 *
 *   BY_STEPS   its pixels are not known: a front at a time, each node as far ahead as later ones look;
 *   BY_ROWS    its pixels are known: a row at a time, node by node;
 *   AT_ONCE    of a map that is given to another program: node by node. */

#include <stdlib.h>

#include "evaluate.h"
#include "heads.h"

enum { INSIDE = 64 };

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

/* --- From the last map to the coder, and back ------------------------------------------------------ */

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
