/* Quantised coefficients of a JPEG file, and its other bytes, to bits and back, by adaptive mixing.
 * What pixelzip.codec.jpeg.model calls; docs/format.md, "Coefficients", specifies it. */

#include "export.h"
#include "jpeg_mixing.h"
#include "jpeg_network.h"

#include <stdlib.h>

/* --- Memory ----------------------------------------------------------------------------------- */

EXPORT void model_tables(const int32_t *logit, const int32_t *sigmoid, const int32_t *price)
{
    fill_mixing_tables(logit, sigmoid, price);
}

EXPORT void network_sizes(int64_t *sizes)
{
    network_counts(sizes);
}

/* Take the network of coefficients; multiply with no faster instructions than `most` (see
 * used_products). Returns what is used. */
EXPORT int model_network(
    const int8_t *weights, const int32_t *biases, const uint8_t *shifts, int most)
{
    fill_network(weights, biases, shifts, most);
    return used_products;
}

/* How many 32-bit numbers there are of slots, weights, final weights and refiners. */
EXPORT void memory_sizes(int64_t *sizes)
{
    sizes[0] = CONTEXTS * (int64_t)LINES * LINE;
    sizes[1] = SELECTORS * (int64_t)SETS * INPUTS;
    sizes[2] = FINALS * (SELECTORS + 1);
    sizes[3] = REFINERS * REFINED * BINS;
}

/* Of nothing seen. */
EXPORT void memory_fresh(int32_t *numbers)
{
    struct memory *memory = (struct memory *)numbers;
    uint32_t *slots = memory->slots[0][0];
    int32_t *weights = memory->weights[0][0], *refined = memory->refined[0][0];
    for (int i = 0; i < CONTEXTS * LINES * LINE; i++)
        slots[i] = (uint32_t)1 << 31;
    for (int i = 0; i < SELECTORS * SETS * INPUTS; i++)
        weights[i] = i & 1 ? 0 : 65536 * 3 / 10;
    for (int i = 0; i < FINALS; i++)
        for (int j = 0; j <= SELECTORS; j++)
            memory->finals[i][j] = j == SELECTORS ? 0 : 65536 / SELECTORS;
    for (int i = 0; i < REFINERS * REFINED; i++)
        for (int bin = 0; bin < BINS; bin++)
            refined[BINS * i + bin] = sigmoid_of((bin - 16) * 128);
}

/* --- What contexts are made of ---------------------------------------------------------------- */

static const uint8_t zigzag[64] = {0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19,
    26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22,
    15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

/* c(u) cos((2x + 1) u pi / 16) in units of 2^-13: row x, column u. */
static const int32_t basis[8][8] = {
    {2896, 4017, 3784, 3406, 2896, 2276, 1567, 799},
    {2896, 3406, 1567, -799, -2896, -4017, -3784, -2276},
    {2896, 2276, -1567, -4017, -2896, 799, 3784, 3406},
    {2896, 799, -3784, -2276, 2896, 3406, -1567, -4017},
    {2896, -799, -3784, 2276, 2896, -3406, -1567, 4017},
    {2896, -2276, -1567, 4017, -2896, -799, 3784, -3406},
    {2896, -3406, 1567, 799, -2896, 4017, -3784, 2276},
    {2896, -4017, 3784, -3406, 2896, -2276, 1567, -799},
};

enum { DEQUANTISED = 1 << 16 }; /* coefficients times steps, at most */

static inline int32_t magnitude(int32_t x)
{
    return x < 0 ? -x : x;
}

static inline int32_t smaller(int32_t x, int32_t y)
{
    return x < y ? x : y;
}

/* The numbers up to 4 by themselves, then two levels for each doubling. */
static inline int32_t level(int32_t x)
{
    int length = 0;
    if (x < 5)
        return x;
    while ((x - 1) >> length > 3)
        length++;
    return 3 + 2 * length + ((x - 1) >> length & 1);
}

static inline int32_t signed_level(int32_t x)
{
    return x < 0 ? -level(-x) : level(x);
}

/* The nearest integer to x / by (by > 0), ties away from 0, within 16 bits. */
static inline int32_t quotient(int64_t x, int64_t by)
{
    int64_t size = ((x < 0 ? -x : x) + by / 2) / by;
    size = size < 32767 ? size : 32767;
    return (int32_t)(x < 0 ? -size : size);
}

/* What is kept of a block besides its coefficients. */
struct trace {
    int32_t right[8], bottom[8]; /* spectra of its last column and row, in units of 2^-13 */
    int32_t dc; /* coefficient times step */
    int8_t values[64], sizes[64]; /* its coefficients but that one, squeezed, and their magnitudes */
    int32_t columns[2][8], rows[2][8]; /* its last two columns and rows of pixels, times 8 */
    int32_t residue; /* of its DC coefficient */
    int32_t energy;  /* sum of the magnitudes of the others */
    int32_t end, count; /* place of the last one that is not 0; how many are not */
};

/* A block and what surrounds it; NULL is what there is not, `nothing` coefficients that are not. */
struct place {
    int plane, colour; /* colour: 0 of the first plane, 1 of the second, 2 of others */
    int16_t *block;
    const int16_t *above, *left, *above_left, *above_right;
    const int16_t *earlier[2]; /* the first plane there, the plane before this one */
    const int32_t *steps;      /* in zigzag order */
    const struct trace *above_trace, *left_trace, *above_left_trace, *above_right_trace;
    const struct trace *two_above_trace, *two_left_trace;
    const int32_t *plane_sums;
    const int8_t *earlier_inputs;
    struct trace *trace;
};

static const int16_t nothing[64];
static const struct trace no_trace;

static inline int32_t dequantised(const struct place *place, int k, int32_t value)
{
    return limited(value * place->steps[k], DEQUANTISED);
}

/* --- Where a block ends ----------------------------------------------------------------------- */

static int end_of(const int16_t *block)
{
    int k = 63;
    while (k > 0 && block[k] == 0)
        k--;
    return k;
}

static int code_end(
    struct mixing *mixing, const struct place *place, const struct opinion *opinion, int end)
{
    const struct trace *above = place->above_trace, *left = place->left_trace;
    int a = above->end, l = left->end;
    int al = place->above_left_trace->end, ar = place->above_right_trace->end;
    int counts = above->count + left->count;
    int ea = level(above->energy), el = level(left->energy), energies = ea + el;
    int y = place->plane ? end_of(place->earlier[0]) : 64;
    int b = place->plane > 1 ? end_of(place->earlier[1]) : 64;
    int step = level(place->steps[1] + place->steps[2] + place->steps[5]);
    int mean = (a + l + 1) / 2, wide = (2 * a + 2 * l + al + ar + 3) / 6;
    uint32_t kind = 4096 + (uint32_t)place->colour;
    uint32_t place_said = (uint32_t)limited(opinion->end[0] < 0 ? 0 : opinion->end[0], 255);
    mixing->count = 0;
    add(mixing, kind, (uint32_t)(a * 64 + l));
    add(mixing, kind, (uint32_t)wide);
    add(mixing, kind, (uint32_t)counts);
    add(mixing, kind, (uint32_t)(y * 65 + b));
    add(mixing, kind, (uint32_t)(y * 65 + mean / 2));
    add(mixing, kind, (uint32_t)(ea * 64 + el));
    add(mixing, kind, (uint32_t)(step * 64 + wide));
    add(mixing, kind, (uint32_t)(energies * 64 + counts / 2));
    add(mixing, kind, (uint32_t)(b * 65 + wide / 2));
    add(mixing, kind, (uint32_t)(step * 128 + energies));
    add(mixing, kind, 0x40000 + place_said);
    add(mixing, kind, 0x50000 + place_said / 4 * 64 + (uint32_t)wide);
    int first = 2 * SHADES * SHADE + (place->colour ? 192 : 0);
    int chosen[SELECTORS] = {0, mean / 2, smaller(energies, 63) / 2, smaller(step, 31),
        place->plane ? y / 2 : a / 2};
    mixing->distance = 0;
    mixing->shade = 0;
    int node = 1;
    for (int i = 5; i >= 0; i--) {
        if (i == 5 || i == 2)
            find_lines(mixing, (uint32_t)node);
        int below = i > 2 ? i - 3 : i; /* bits of the line after this one */
        int start = 1 << (2 - below);
        for (int j = 0; j < SELECTORS; j++)
            mixing->selected[j] = first + 32 * (5 - i) + chosen[j];
        mixing->selected[0] = first + node;
        mixing->final = 64 + 8 * place->colour + i;
        mixing->refined[0] = kind * 64 + (uint32_t)node;
        mixing->refined[1] = kind * 64 + (uint32_t)mean;
        node = 2 * node + code_bit(mixing, (node & (start - 1)) | start, 0, end >> i & 1);
    }
    return node - 64;
}

/* --- Coefficients ----------------------------------------------------------------------------- */

/* What is known of a block. */
struct known {
    int32_t natural[64];         /* coefficients by row and column; 0 if not known yet */
    int32_t rows[8], columns[8]; /* what they add to the spectra of the first column and row */
    int end, count;
    int8_t values[64];              /* squeezed */
    int32_t means[64], scales[64];  /* what the network says: in eighths; 16 a doubling, 96 for 1 */
};

static void know(const struct place *place, struct known *known, int k, int32_t value)
{
    int u = zigzag[k] & 7, v = zigzag[k] >> 3;
    int32_t size = dequantised(place, k, value);
    known->natural[zigzag[k]] = value;
    known->values[k] = squeezed(size);
    known->count += value != 0;
    known->rows[v] += basis[0][u] * size;
    known->columns[u] += basis[0][v] * size;
}

static inline int32_t at(const struct known *known, int u, int v)
{
    return u < 8 && v < 8 ? known->natural[8 * v + u] : 0;
}

static inline int32_t after(const struct known *known, int k)
{
    return k < 64 ? magnitude(known->natural[zigzag[k]]) : 0;
}

static void set_contexts(
    struct mixing *mixing, const struct place *place, const struct known *known, int k)
{
    int u = zigzag[k] & 7, v = zigzag[k] >> 3, colour = place->colour, end = known->end;
    int32_t step = place->steps[k], a = place->above[k], l = place->left[k];
    int32_t al = place->above_left[k], ar = place->above_right[k];
    int32_t ma = magnitude(a), ml = magnitude(l);
    int32_t near = 2 * (ma + ml) + magnitude(al) + magnitude(ar);
    int32_t c1 = at(known, u + 1, v), c2 = at(known, u, v + 1), c3 = at(known, u + 1, v + 1);
    int32_t c4 = at(known, u + 2, v), c5 = at(known, u, v + 2);
    int32_t inside = 2 * (magnitude(c1) + magnitude(c2)) + magnitude(c3) + magnitude(c4)
        + magnitude(c5);
    /* What makes the first column go on as the last one of the block to the left, and likewise the
     * first row; in quarters. */
    int32_t by_left = 0, by_above = 0;
    if (place->left_trace != &no_trace)
        by_left = quotient(4 * ((int64_t)place->left_trace->right[v] - known->rows[v]),
            (int64_t)basis[0][u] * step);
    if (place->above_trace != &no_trace)
        by_above = quotient(4 * ((int64_t)place->above_trace->bottom[u] - known->columns[u]),
            (int64_t)basis[0][v] * step);
    int32_t by_both = u == 0 ? by_left : v == 0 ? by_above : (by_left + by_above) / 2;
    int32_t y = place->earlier[0][k], b = place->earlier[1][k];
    int32_t ln = level(near), li = level(inside), ls = level(step);
    int32_t both = level(magnitude(by_both));
    uint32_t kind = (uint32_t)(k * 3 + colour);
    /* What the network says. */
    int32_t mean = known->means[k], scale = known->scales[k] / 2;
    uint32_t coarse = (uint32_t)scale / 4;
    mixing->count = 0;
    if (place->plane)
        add_signed(mixing, kind, limited(y, 20), limited(b, 20), 0);
    else
        add_signed(mixing, kind, limited(al, 3), limited(ar, 3), (ma > 0) * 2u + (ml > 0));
    add(mixing, kind,
        (uint32_t)((level(magnitude(c1)) * 32 + level(magnitude(c2))) * 32 + level(magnitude(c3))));
    add_signed(mixing, kind, signed_level(by_left), limited(l, 2), 64);
    add(mixing, kind, (uint32_t)((level(magnitude(y)) * 32 + level(magnitude(b))) * 32 + ln));
    add_signed(mixing, kind, limited(by_both, 60), 0, (uint32_t)(ls * 4 + (li > 6 ? 2 : li > 2)));
    add(mixing, kind, (uint32_t)(after(known, k + 1) + 8 * after(known, k + 2)));
    add(mixing, kind, 0x10000 + (uint32_t)scale);
    add(mixing, 9000 + (uint32_t)colour, (uint32_t)((scale * 64 + li) * 64 + level(end - k)));
    add_signed(mixing, kind, limited(mean, 60), 0, 0x20000 + coarse);
    add_signed(mixing, kind, limited(by_both, 40), 0, 0x30000 + coarse);
    add_signed(mixing, 9100, limited(mean, 200), 0, 0x20000 + (uint32_t)scale);
    add_signed(mixing, 9200, limited(mean, 60), signed_level(by_both), 0x20000 + coarse);
    int first = colour ? SHADES * SHADE : 0;
    mixing->distance = SHADE;
    mixing->selected[0] = first + k;
    mixing->selected[1] = first + scale / 2;
    mixing->selected[2] = first + smaller(both, 15) * 4 + (end < 6 ? 0 : end < 16 ? 1 : end < 32 ? 2 : 3);
    mixing->selected[3] = first + smaller(ls, 15) * 4 + (u + v < 3 ? 0 : u + v < 5 ? 1 : u + v < 8 ? 2 : 3);
    mixing->selected[4] = first + smaller(level(magnitude(mean)), 15) * 4
        + (scale < 32 ? 0 : scale < 44 ? 1 : scale < 56 ? 2 : 3);
    mixing->final = colour ? SHADES : 0;
    mixing->refined[0] = (uint32_t)((limited(mean, 30) + 32) * 128 + scale);
    mixing->refined[1] = 8192 + (uint32_t)(scale * 64 + li);
}

/* --- The DC coefficient ----------------------------------------------------------------------- */

/* Pixels of a block, its DC coefficient taken for 0, times 8: (8, 8). */
static void render(const struct place *place, const struct known *known, int32_t *pixels)
{
    int32_t sizes[64], half[64];
    for (int k = 0; k < 64; k++)
        sizes[zigzag[k]] = dequantised(place, k, k ? known->natural[zigzag[k]] : 0);
    for (int v = 0; v < 8; v++)
        for (int x = 0; x < 8; x++) {
            int64_t sum = 0;
            for (int u = 0; u < 8; u++)
                sum += (int64_t)basis[x][u] * sizes[8 * v + u];
            half[8 * v + x] = (int32_t)(sum >> 8);
        }
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 8; x++) {
            int64_t sum = 0;
            for (int v = 0; v < 8; v++)
                sum += (int64_t)basis[y][v] * half[8 * v + x];
            pixels[8 * y + x] = (int32_t)(sum >> 15);
        }
}

/* What the DC coefficient would have to be, times the step, for pixels to go on straight: of each
 * pixel of an edge. Returns their sum. */
static int32_t estimate(const int32_t (*theirs)[8], const int32_t *ours, int along, int across,
    int32_t *estimates)
{
    int32_t sum = 0;
    for (int i = 0; i < 8; i++) {
        int32_t first = ours[i * along], second = ours[i * along + across];
        estimates[i] = (3 * theirs[1][i] - theirs[0][i] - 3 * first + second) / 2;
        sum += estimates[i];
    }
    return sum;
}

static void sort(int32_t *numbers, int count)
{
    for (int i = 1; i < count; i++)
        for (int j = i; j > 0 && numbers[j - 1] > numbers[j]; j--) {
            int32_t swap = numbers[j];
            numbers[j] = numbers[j - 1];
            numbers[j - 1] = swap;
        }
}

static int32_t code_dc(
    struct mixing *mixing, const struct place *place, const struct known *known, int32_t value)
{
    const struct trace *above = place->above_trace, *left = place->left_trace;
    struct trace *trace = place->trace;
    int32_t pixels[64], estimates[16], step = place->steps[0];
    int32_t sum_above = 0, sum_left = 0, count = 0;
    render(place, known, pixels);
    if (above != &no_trace) {
        sum_above = estimate(above->rows, pixels, 1, 8, estimates);
        count = 8;
    }
    if (left != &no_trace) {
        sum_left = estimate(left->columns, pixels, 8, 1, estimates + count);
        count += 8;
    }
    sort(estimates, count);
    int64_t middle = 0;
    for (int i = count / 4; i < count - count / 4; i++)
        middle += estimates[i];
    int32_t eighths = count ? quotient(8 * middle, (int64_t)(count / 2) * step) : 0;
    int32_t spread = 0;
    if (count)
        spread = quotient(8 * ((int64_t)estimates[count - count / 8 - 1] - estimates[count / 8]), step);
    int32_t predicted = (eighths + (eighths < 0 ? -4 : 4)) / 8, rest = eighths - 8 * predicted;
    int32_t by_above = above != &no_trace ? quotient(sum_above, step) - eighths : 0;
    int32_t by_left = left != &no_trace ? quotient(sum_left, step) - eighths : 0;
    int32_t a = place->above[0] - predicted, l = place->left[0] - predicted;
    int32_t gradient = a + place->left[0] - place->above_left[0];
    int32_t ra = above->residue, rl = left->residue, residues = magnitude(ra) + magnitude(rl);
    int32_t ls = level(spread), lc = level(known->count), lr = level(residues), lstep = level(step);
    uint32_t kind = 12288 + (uint32_t)place->colour;
    /* What the network says, beyond the prediction. */
    int32_t beyond = known->means[0] - 8 * predicted, scale = known->scales[0] / 2;
    uint32_t coarse = 0x20000 + (uint32_t)scale / 4;
    mixing->count = 0;
    add_signed(mixing, kind, rest, 0, (uint32_t)ls);
    add_signed(mixing, kind, signed_level(by_above), signed_level(by_left), 0);
    add_signed(mixing, kind, signed_level(by_above), 0, (uint32_t)ls);
    add_signed(mixing, kind, signed_level(by_left), 0, (uint32_t)ls);
    add_signed(mixing, kind, signed_level(ra), signed_level(rl), 0);
    add_signed(mixing, kind, signed_level(gradient), 0, (uint32_t)(ls / 2));
    add(mixing, kind, (uint32_t)(lr * 64 + ls));
    add(mixing, kind, (uint32_t)(lc * 64 + ls));
    add_signed(mixing, kind, signed_level(l), signed_level(a), 0);
    add_signed(mixing, kind, limited(beyond, 200), 0, coarse);
    add_signed(mixing, kind, signed_level(beyond), signed_level(rest), coarse);
    add(mixing, kind, 0x30000 + (uint32_t)scale);
    int first = place->colour ? SHADES * SHADE : 0;
    mixing->distance = SHADE;
    mixing->selected[0] = first;
    mixing->selected[1] = first + scale / 2;
    mixing->selected[2] = first + smaller(lr, 63);
    mixing->selected[3] = first + smaller(lstep, 63);
    mixing->selected[4] = first + smaller(lc, 63);
    mixing->final = 88;
    mixing->refined[0] = kind;
    mixing->refined[1] = kind + 64 * (uint32_t)(1 + ls);
    trace->residue = code_number(mixing, 0, value - predicted);
    int32_t found = limited(predicted + trace->residue, 32767), mean = dequantised(place, 0, found);
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 8; j++) {
            trace->rows[i][j] = pixels[8 * (6 + i) + j] + mean;
            trace->columns[i][j] = pixels[8 * j + 6 + i] + mean;
        }
    return found;
}

/* --- What the network is told ------------------------------------------------------------------ */

static const int around_sizes[6] = {63, 63, 35, 35, 20, 20}, earlier_sizes[2] = {63, 36};
static const int around_signed[2] = {20, 20}, earlier_signed[2] = {63, 20};

/* Of DC coefficients times steps, where there are both. */
static int8_t difference(const struct trace *one, const struct trace *other)
{
    return one != &no_trace && other != &no_trace ? squeezed((one->dc - other->dc) >> 2) : 0;
}

static int8_t *copied(int8_t *inputs, const int8_t *from, int count)
{
    memcpy(inputs, from + 1, (size_t)count);
    return inputs + count;
}

/* How far a spectrum of the block beside is from what is known of this one's. */
static int8_t gap(int32_t beside, int32_t own)
{
    return squeezed((int32_t)(((int64_t)beside - own) >> 12));
}

static int32_t without_dc(int32_t spectrum, const struct trace *trace)
{
    return spectrum - basis[0][0] * trace->dc;
}

/* Of the blocks around. */
static void look_around(const struct place *place, int8_t *inputs)
{
    const struct trace *a = place->above_trace, *l = place->left_trace;
    const struct trace *al = place->above_left_trace, *ar = place->above_right_trace;
    const struct trace *aa = place->two_above_trace, *ll = place->two_left_trace;
    const struct trace *traces[6] = {a, l, al, ar, aa, ll};
    for (int i = 0; i < 6; i++)
        inputs = copied(inputs, traces[i]->sizes, around_sizes[i]);
    for (int i = 0; i < 2; i++)
        inputs = copied(inputs, traces[i]->values, around_signed[i]);
    for (int i = 0; i < 8; i++) {
        inputs[i] = gap(i ? l->right[i] : without_dc(l->right[0], l), 0);
        inputs[8 + i] = gap(i ? a->bottom[i] : without_dc(a->bottom[0], a), 0);
    }
    inputs += 16;
    *inputs++ = difference(l, a);
    *inputs++ = difference(a, al);
    *inputs++ = difference(l, al);
    *inputs++ = difference(ar, a);
    *inputs++ = difference(aa, a);
    *inputs++ = difference(ll, l);
    for (int i = 0; i < 6; i++) {
        inputs[i] = traces[i] != &no_trace ? 64 : 0;
        inputs[6 + i] = (int8_t)(2 * traces[i]->end);
        inputs[12 + i] = (int8_t)(2 * traces[i]->count);
    }
}

/* Of the steps, and of the kind of component. */
static void look_at_plane(const int32_t *steps, int colour, int across, int down, int8_t *inputs)
{
    memset(inputs, 0, PLANE_INPUTS);
    for (int k = 0; k < 64; k++)
        inputs[k] = (int8_t)smaller(logarithm((uint32_t)steps[k]) >> 1, 127);
    inputs[64 + colour] = 64;
    inputs[67] = across ? 64 : 0;
    inputs[68] = down ? 64 : 0;
}

/* The gaps to the blocks beside. */
static void look_at_edges(const struct place *place, const struct known *known, int8_t *edges)
{
    const struct trace *above = place->above_trace, *left = place->left_trace;
    memset(edges, 0, EDGES);
    for (int i = 0; i < 8 && left != &no_trace; i++)
        edges[i] = gap(i ? left->right[i] : without_dc(left->right[0], left), known->rows[i]);
    for (int i = 0; i < 8 && above != &no_trace; i++)
        edges[8 + i] = gap(i ? above->bottom[i] : without_dc(above->bottom[0], above), known->columns[i]);
}

/* A DC coefficient, times the step, for which the edges of two blocks are alike. */
static int32_t alike(int32_t spectrum, const struct trace *trace, int32_t own)
{
    return trace->dc + (int32_t)(((int64_t)without_dc(spectrum, trace) - own) * 181 >> 19);
}

/* What the DC coefficient is guessed to be, times the step; and how far the guesses by the left and
 * by the above are from it, which take the places of their gaps. */
static int32_t guess_dc(const struct place *place, const struct known *known, int8_t *edges)
{
    const struct trace *above = place->above_trace, *left = place->left_trace;
    int has_left = left != &no_trace, has_above = above != &no_trace;
    int32_t by_left = has_left ? alike(left->right[0], left, known->rows[0]) : 0;
    int32_t by_above = has_above ? alike(above->bottom[0], above, known->columns[0]) : 0;
    int32_t guess = has_left && has_above ? (by_left + by_above) >> 1 : by_left + by_above;
    edges[0] = has_left ? squeezed(by_left - guess) : 0;
    edges[8] = has_above ? squeezed(by_above - guess) : 0;
    return guess;
}

/* Means and scales of a stage's coefficients, in steps. */
static void take_hints(const struct place *place, struct known *known, int stage, const int32_t *said)
{
    int start = stage_starts[stage + 1];
    for (int k = start; k < stage_starts[stage]; k++, said += 2) {
        int32_t scale = said[1] - logarithm((uint32_t)place->steps[k]);
        scale = scale < 0 ? 0 : smaller(scale, 255);
        known->scales[k] = scale;
        known->means[k] = limited(said[0], 1000) * ((16 + (scale & 15)) << (scale >> 4)) >> 13;
    }
}

/* --- Blocks ----------------------------------------------------------------------------------- */

static void code_block(struct mixing *mixing, const struct place *place)
{
    struct known known;
    int16_t *block = place->block;
    struct trace *trace = place->trace;
    struct opinion opinion;
    int8_t around[AROUND_INPUTS], edges[EDGES];
    int32_t said[MOST_HEADS];
    memset(&known, 0, sizeof known);
    look_around(place, around);
    see(&opinion, place->plane_sums, around, place->plane > 0, place->earlier_inputs);
    known.end = code_end(mixing, place, &opinion, mixing->coder.decoding ? 0 : end_of(block));
    learn_end(&opinion, known.end);
    trace->energy = 0;
    for (int stage = 0; stage < STAGES; stage++) {
        int start = stage_starts[stage + 1], k = smaller(stage_starts[stage] - 1, known.end);
        if (k < start)
            continue;
        look_at_edges(place, &known, edges);
        int32_t guess = start ? 0 : guess_dc(place, &known, edges);
        say(&opinion, stage, edges, said);
        take_hints(place, &known, stage, said);
        if (!start) {
            known.means[0] = limited(quotient(8 * (int64_t)guess, place->steps[0]) + known.means[0], 1 << 20);
            break;
        }
        for (; k >= start; k--) {
            set_contexts(mixing, place, &known, k);
            block[k] = (int16_t)limited(code_number(mixing, k == known.end, block[k]), 32767);
            trace->energy += magnitude(block[k]);
            know(place, &known, k, block[k]);
        }
        show(&opinion, stage, known.values);
    }
    block[0] = (int16_t)code_dc(mixing, place, &known, block[0]);
    trace->end = known.end;
    trace->count = known.count;
    trace->dc = dequantised(place, 0, block[0]);
    memset(trace->right, 0, sizeof trace->right);
    memset(trace->bottom, 0, sizeof trace->bottom);
    for (int k = 0; k <= known.end; k++) {
        int u = zigzag[k] & 7, v = zigzag[k] >> 3;
        int32_t size = dequantised(place, k, block[k]);
        trace->right[v] += basis[7][u] * size;
        trace->bottom[u] += basis[7][v] * size;
    }
    memcpy(trace->values, known.values, sizeof trace->values);
    for (int k = 0; k < 64; k++)
        trace->sizes[k] = known.values[k] < 0 ? -known.values[k] : known.values[k];
}

struct plane {
    int64_t first;      /* block */
    int32_t stride;     /* blocks a row */
    int32_t h, v;       /* blocks of a unit */
    int32_t steps[64];  /* in zigzag order */
    int32_t sums[WIDTH]; /* of the network's first layer, of what all its blocks have in common */
    struct trace *traces; /* of three rows */
};

struct picture {
    int count;
    struct plane planes[4];
    int16_t *blocks;
    uint32_t *prices; /* of each block, or NULL */
};

/* The block of another plane where one of this plane is. */
static const int16_t *same_place(
    const struct picture *picture, int plane, int which, int64_t row, int64_t column)
{
    const struct plane *one = &picture->planes[plane], *other = &picture->planes[which];
    int64_t block = other->first + row * other->v / one->v * other->stride + column * other->h / one->h;
    return picture->blocks + 64 * block;
}

/* Tell the network of the blocks of earlier components at the place of a block, and of where the
 * block to the left and that above are, if they are there. */
static void look_at_earlier(const struct picture *picture, int which, int row, int column,
    int has_above, int8_t *inputs)
{
    int8_t values[2][64] = {{0}}, sizes[2][64] = {{0}};
    int8_t *last = inputs + EARLIER_INPUTS - 10;
    memset(inputs, 0, EARLIER_INPUTS);
    for (int i = 0; i < 2 && i < which; i++) {
        int other = i ? which - 1 : 0;
        const int32_t *steps = picture->planes[other].steps;
        const int16_t *block = same_place(picture, which, other, row, column);
        int end = end_of(block), count = 0;
        for (int k = 1; k <= end; k++) {
            values[i][k] = squeezed(limited(block[k] * steps[k], DEQUANTISED));
            sizes[i][k] = values[i][k] < 0 ? -values[i][k] : values[i][k];
            count += block[k] != 0;
        }
        int32_t dc = limited(block[0] * steps[0], DEQUANTISED);
        if (column) {
            int32_t left = same_place(picture, which, other, row, column - 1)[0];
            last[2 * i] = squeezed((dc - limited(left * steps[0], DEQUANTISED)) >> 2);
        }
        if (has_above) {
            int32_t above = same_place(picture, which, other, row - 1, column)[0];
            last[2 * i + 1] = squeezed((dc - limited(above * steps[0], DEQUANTISED)) >> 2);
        }
        last[4 + i] = 64;
        last[6 + i] = (int8_t)(2 * end);
        last[8 + i] = (int8_t)(2 * count);
    }
    for (int i = 0; i < 2; i++)
        inputs = copied(inputs, sizes[i], earlier_sizes[i]);
    for (int i = 0; i < 2; i++)
        inputs = copied(inputs, values[i], earlier_signed[i]);
}

/* A row of blocks, the `number`th of those that are coded. */
static void code_row(
    struct mixing *mixing, const struct picture *picture, int which, int row, int number)
{
    const struct plane *plane = &picture->planes[which];
    int64_t before = plane->first + (int64_t)row * plane->stride;
    int16_t *blocks = picture->blocks + 64 * before;
    const int16_t *above = number ? blocks - 64 * (int64_t)plane->stride : NULL;
    struct trace *traces = plane->traces + number % 3 * plane->stride;
    const struct trace *above_traces = plane->traces + (number + 2) % 3 * plane->stride;
    const struct trace *two_above = plane->traces + (number + 1) % 3 * plane->stride;
    int8_t earlier[EARLIER_INPUTS];
    for (int x = 0; x < plane->stride && !mixing->coder.failed; x++) {
        int has_left = x > 0, has_right = above && x + 1 < plane->stride;
        struct place place = {
            .plane = which,
            .colour = which < 2 ? which : 2,
            .block = blocks + 64 * x,
            .above = above ? above + 64 * x : nothing,
            .left = has_left ? blocks + 64 * (x - 1) : nothing,
            .above_left = above && has_left ? above + 64 * (x - 1) : nothing,
            .above_right = has_right ? above + 64 * (x + 1) : nothing,
            .earlier = {which ? same_place(picture, which, 0, row, x) : nothing,
                which > 1 ? same_place(picture, which, which - 1, row, x) : nothing},
            .steps = plane->steps,
            .above_trace = above ? above_traces + x : &no_trace,
            .left_trace = has_left ? traces + x - 1 : &no_trace,
            .above_left_trace = above && has_left ? above_traces + x - 1 : &no_trace,
            .above_right_trace = has_right ? above_traces + x + 1 : &no_trace,
            .two_above_trace = number > 1 ? two_above + x : &no_trace,
            .two_left_trace = x > 1 ? traces + x - 2 : &no_trace,
            .plane_sums = plane->sums,
            .earlier_inputs = earlier,
            .trace = traces + x,
        };
        if (which)
            look_at_earlier(picture, which, row, x, number > 0, earlier);
        mixing->coder.price = 0;
        code_block(mixing, &place);
        if (picture->prices)
            picture->prices[before + x] = mixing->coder.price;
    }
}

static int64_t finished(struct mixing *mixing, const uint8_t *bytes)
{
    finish_coder(&mixing->coder);
    if (mixing->coder.failed)
        return -1;
    return mixing->coder.decoding ? 0 : mixing->coder.next - bytes;
}

/* Code the rows of units from `from` up to `to`, all of one plane before the next; planes before
 * the `first` one are known, and not coded. `shapes` are of each plane: first block, blocks a row,
 * h, v. `prices`, if it is not NULL, gets what each block took, in units of 2^-10 bits. Returns the
 * number of bytes when encoding, 0 when decoding; -1 if there is no room for them, or they are not
 * what an encoder makes, -2 if there is no memory. */
EXPORT int64_t model_blocks(int32_t *memory, int decoding, int16_t *blocks, const int32_t *shapes,
    int count, int first, const int32_t *steps, int from, int to, uint8_t *bytes, int64_t length,
    uint32_t *prices)
{
    struct picture picture = {.count = count, .blocks = blocks, .prices = prices};
    struct mixing *mixing = calloc(1, sizeof *mixing);
    int64_t result = -2;
    int most_h = 0, most_v = 0;
    if (!mixing)
        return result;
    for (int i = 0; i < count; i++, shapes += 4) {
        struct plane *plane = &picture.planes[i];
        plane->first = shapes[0];
        plane->stride = shapes[1];
        plane->h = shapes[2];
        plane->v = shapes[3];
        most_h = plane->h > most_h ? plane->h : most_h;
        most_v = plane->v > most_v ? plane->v : most_v;
        memcpy(plane->steps, steps + 64 * i, sizeof plane->steps);
        plane->traces = calloc(3 * (size_t)plane->stride, sizeof *plane->traces);
        if (!plane->traces)
            goto done;
    }
    mixing->memory = (struct memory *)memory;
    start_coder(&mixing->coder, decoding, bytes, length);
    for (int i = first; i < count; i++) {
        struct plane *plane = &picture.planes[i];
        int8_t inputs[PLANE_INPUTS];
        look_at_plane(plane->steps, smaller(i, 2), plane->h < most_h, plane->v < most_v, inputs);
        plane_sums(inputs, plane->sums);
        for (int row = 0; row < (to - from) * plane->v && !mixing->coder.failed; row++)
            code_row(mixing, &picture, i, from * plane->v + row, row);
    }
    result = finished(mixing, bytes);
done:
    for (int i = 0; i < count; i++)
        free(picture.planes[i].traces);
    free(mixing);
    return result;
}

/* --- Other bytes ------------------------------------------------------------------------------ */

/* Code `count` bytes of `text`, in the contexts of those before. Returns as model_blocks does. */
EXPORT int64_t model_bytes(int32_t *memory, int decoding, uint8_t *text, int64_t count,
    uint8_t *bytes, int64_t length)
{
    struct mixing *mixing = calloc(1, sizeof *mixing);
    if (!mixing)
        return -2;
    mixing->memory = (struct memory *)memory;
    mixing->distance = 0;
    start_coder(&mixing->coder, decoding, bytes, length);
    uint64_t before = 0; /* eight bytes */
    int64_t since = 0;   /* a marker: bytes of its segment */
    uint32_t marker = 0;
    for (int64_t i = 0; i < count && !mixing->coder.failed; i++, since++) {
        uint32_t kind = 16384, last = (uint32_t)before & 255;
        mixing->count = 0;
        for (int order = 1; order <= 6; order++) {
            uint64_t seen = before & (((uint64_t)1 << 8 * order) - 1);
            add(mixing, kind + (uint32_t)order, mixed((uint32_t)seen, (uint32_t)(seen >> 32)));
        }
        add(mixing, kind + 8, mixed(marker, (uint32_t)since));
        add(mixing, kind + 9, mixed(marker, last));
        add(mixing, kind + 10, mixed(marker * 512 + (uint32_t)(since < 511 ? since : 511), last));
        add(mixing, kind + 11, i >= 64 ? text[i - 64] : 0);
        add(mixing, kind + 12, i >= 12 ? text[i - 12] * 256u + last : 0);
        add(mixing, kind + 13, (uint32_t)(before >> 8 & 0xFFFF));
        int found = 1, byte = text[i], first = 2 * SHADES * SHADE + 384;
        for (int bit = 7; bit >= 0; bit--) {
            if (bit == 7 || bit == 4 || bit == 1)
                find_lines(mixing, (uint32_t)found);
            int start = 1 << (bit > 4 ? 7 - bit : bit > 1 ? 4 - bit : 1 - bit);
            mixing->selected[0] = first + bit;
            mixing->selected[1] = first + 8 + (int)(marker & 15) * 8 + bit;
            mixing->selected[2] = first + (found & 255);
            mixing->selected[3] = first + (int)last;
            mixing->selected[4] = first + (int)(since < 255 ? since : 255);
            mixing->final = 112 + bit;
            mixing->refined[0] = kind * 256 + (uint32_t)found;
            mixing->refined[1] = kind * 256 + 65536 * last + (uint32_t)found;
            int coded = code_bit(mixing, (found & (start - 1)) | start, 0, byte >> bit & 1);
            found = 2 * found + coded;
        }
        text[i] = (uint8_t)found;
        before = before << 8 | text[i];
        if (last == 0xFF && text[i] && text[i] != 0xFF) {
            marker = text[i];
            since = 0;
        }
    }
    int64_t result = finished(mixing, bytes);
    free(mixing);
    return result;
}
