/* The adaptive last stage: what a network says of a sub-pixel, mixed with what its tile has taught.
 *
 * docs/format.md specifies all of it ("Adaptive payloads"). Predictions are least squares in
 * binary32, every operation rounded once and in the order that stands here: loops over arrays may be
 * vectorised, sums may not be reordered, and nothing may be fused. All the rest is integers. */

#include "coding.h"
#include "export.h"

#include <fenv.h>
#include <float.h>
#include <stdlib.h>

/* Where floats are not rounded after each operation, Python does the work. */
#if FLT_EVAL_METHOD == 0

enum {
    MOST_COMPONENTS = 1024,
    FEATURES = 32,   /* room for them: of three channels there are up to 27 */
    OWN = 12,        /* neighbours of the sub-pixel's own channel, of a colour ... */
    OWN_ALONE = 20,  /* ... and where there is one channel only */
    OTHER = 6,       /* neighbours of each other channel */
    ABOVE = 3,       /* how far neighbours reach */
    BESIDE = 5,
    RADIUS = 8,      /* of the surroundings that a local filter is solved from */
    MOST_AROUND = 2 * RADIUS * (RADIUS + 1),
    ALIKE = 6,       /* neighbours by which surroundings are compared */
    RECURSIVE = 2,   /* filters that never forget all */
    FILTERS = RECURSIVE + 1,
    EXPERTS = FILTERS + 2, /* the network first, and the network moved last */
    INPUTS = EXPERTS + 1,  /* with a constant */
    SOLVE_EVERY = 4, /* sub-pixels of a channel */
    KEPT = 32,       /* columns of each row whose features are kept: more than 3 * RADIUS */
    NOTED = 8,       /* columns of each row whose errors are */
    LN_STEPS = 1024,
    LN_2 = 45426,    /* 2^16 ln 2 */
    SETS = 5,        /* of weights, one of each in use */
    STORIES = 12, CERTAINTIES = 32, NODES = 256, WIDTHS = 36, DISPUTES = 20,
    SET_ROWS = 8 * (STORIES + CERTAINTIES + WIDTHS + DISPUTES) + NODES, /* of a channel */
    OWN_WEIGHT = 713032, /* 0.68, of what the network says; a weight is in units of 2^-20 */
    OTHER_WEIGHT = 136315, /* 0.13, of what the others do */
    MOST_WEIGHT = 1 << 25,
    RATE = 400,
    STRETCH_LIMIT = 12 << 16,
    CHANCES = 1 << 22, /* what a squashed probability is out of */
    LEAST_CHANCE = 8,
};

/* 2^16 ln(1 + i / 1024); whoever loads this code fills it in. */
static int32_t ln_table[LN_STEPS + 1];

static const int8_t neighbours[OWN_ALONE][2] = {
    {0, -1}, {-1, 0}, {-1, -1}, {-1, 1}, {0, -2}, {-2, 0}, {-2, 1}, {-2, -1}, {-1, -2}, {-2, 2},
    {0, -3}, {-3, 0}, {-2, -2}, {-1, -3}, {0, -4}, {-3, 1}, {-3, -1}, {-2, 3}, {-3, 2}, {-2, -3},
};

/* The same loops for longer vectors, where the compiler can choose when the program is loaded. */
#if !defined(NO_CLONES) && defined(__GLIBC__) && defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define VECTORS __attribute__((target_clones("avx2", "default")))
#define INLINE static inline __attribute__((always_inline))
#else
#define VECTORS
#define INLINE static inline
#endif

typedef float Matrix[FEATURES][FEATURES];
typedef float Vector[FEATURES];

/* A filter by least squares over all sub-pixels of a channel, the older the less. */
struct recursive {
    Matrix products;
    Vector targets, weights;
    int32_t since; /* it was solved */
};

/* What stays known of a sub-pixel for a while. */
struct past {
    Vector features;
    float value;
};
struct note {
    int32_t error[FILTERS], missed, spread; /* in 1/256 of a value */
};

struct adaptive {
    int32_t height, width, channels;
    ptrdiff_t pitch;
    uint8_t *samples;   /* with what stands for those outside of the tile */
    struct past *past;  /* (height, KEPT, channels) */
    struct note *notes; /* (height, NOTED, channels) */
    struct recursive recursive[3][RECURSIVE];
    int32_t *weights;   /* (channels, SET_ROWS, INPUTS) */
};

/* One sub-pixel under way. */
struct site {
    int row, column, channel;
    int count; /* of features */
    Vector features, centred;
    float base;
    int32_t mean, spread, predicted[FILTERS];
    struct component *components[EXPERTS];
    int counts[EXPERTS];
    int story, width, dispute;
};

/* --- Samples ---------------------------------------------------------------------------------- */

static inline uint8_t *sample(const struct adaptive *ad, int row, int column)
{
    return ad->samples + (row + ABOVE) * ad->pitch + (column + BESIDE) * ad->channels;
}

static inline struct past *past(const struct adaptive *ad, int row, int column, int channel)
{
    return ad->past + ((size_t)row * KEPT + column % KEPT) * ad->channels + channel;
}

/* Nothing, of what is outside of the tile. */
static inline const struct note *note(const struct adaptive *ad, int row, int column, int channel)
{
    static const struct note nothing;
    if (row < 0 || column < 0 || column >= ad->width)
        return &nothing;
    return ad->notes + ((size_t)row * NOTED + column % NOTED) * ad->channels + channel;
}

/* A sample gets known, and with it those outside of the tile that it stands for. */
static void put(struct adaptive *ad, int row, int column, int channel, uint8_t value)
{
    sample(ad, row, column)[channel] = value;
    for (int i = 1; column == 0 && row + 1 < ad->height && i <= BESIDE; i++)
        sample(ad, row + 1, -i)[channel] = value;
    for (int i = 0; column == ad->width - 1 && i < BESIDE; i++)
        sample(ad, row, ad->width + i)[channel] = value;
    for (int up = 1; row == 0 && up <= ABOVE; up++)
        if (column + up + 2 < ad->width + BESIDE)
            sample(ad, -up, column + up + 2)[channel] = value;
}

static int find_features(const struct adaptive *ad, int row, int column, int channel, float *out)
{
    const uint8_t *here = sample(ad, row, column);
    int channels = ad->channels, count = 0;
    for (int i = 0; i < (channels == 1 ? OWN_ALONE : OWN); i++)
        out[count++] = here[neighbours[i][0] * ad->pitch + neighbours[i][1] * channels + channel];
    for (int other = 0; other < channels; other++) {
        if (other == channel)
            continue;
        if (other < channel)
            out[count++] = here[other];
        for (int i = 0; i < OTHER; i++)
            out[count++] = here[neighbours[i][0] * ad->pitch + neighbours[i][1] * channels + other];
    }
    for (int i = count; i < FEATURES; i++)
        out[i] = 0;
    return count;
}

/* --- Least squares ---------------------------------------------------------------------------- */

/* The first of a row's columns that are computed: some too many, so that vectors are whole. */
#define START(row) ((row) & ~7)

/* Solve the symmetric a w = b of n unknowns by elimination. Only the upper triangle of a counts, and
 * both are used up. */
INLINE void solve(int n, float (*restrict a)[FEATURES], float *restrict b, float *restrict w)
{
    for (int j = 0; j < n; j++) {
        const float *restrict pivot = a[j];
        float d = a[j][j] >= 0x1p-40f ? a[j][j] : 0x1p-40f;
        a[j][j] = d;
        for (int i = j + 1; i < n; i++) {
            float f = pivot[i] / d;
            for (int m = START(i); m < FEATURES; m++)
                a[i][m] -= f * pivot[m];
            b[i] -= f * b[j];
        }
    }
    for (int i = n - 1; i >= 0; i--) {
        w[i] = b[i] / a[i][i];
        for (int m = 0; m < i; m++)
            b[m] -= a[m][i] * w[i];
    }
}

INLINE float filtered(int n, const float *w, const float *x)
{
    float total = 0;
    for (int i = 0; i < n; i++)
        total += w[i] * x[i];
    return total;
}

/* A prediction in 1/256 of a value. */
static int32_t rounded(float prediction)
{
    if (!(prediction >= 0))
        return 0;
    return (int32_t)((prediction > 255 ? 255 : prediction) * 256 + 0.5f);
}

VECTORS static void learn_recursive(
    struct recursive *filter, int n, const float *x, float target, float keep)
{
    float part = 1 - keep;
    for (int q = 0; q < n; q++) {
        float z = x[q] * part, *restrict row = filter->products[q];
        for (int m = START(q); m < FEATURES; m++)
            row[m] = row[m] * keep + z * x[m];
    }
    float z = target * part;
    for (int m = 0; m < FEATURES; m++)
        filter->targets[m] = filter->targets[m] * keep + z * x[m];
    if (++filter->since < SOLVE_EVERY)
        return;
    filter->since = 0;
    Matrix a;
    Vector b;
    memcpy(a, filter->products, sizeof a);
    memcpy(b, filter->targets, sizeof b);
    for (int q = 0; q < n; q++)
        a[q][q] += 0.5f;
    b[n - 1] += 0.5f; /* towards the network's mean */
    solve(n, a, b, filter->weights);
}

/* Four rows at once of what a local filter is solved from. */
INLINE void add_products(int n, float (*restrict x)[FEATURES], const float *restrict g,
    float (*restrict a)[FEATURES])
{
    const float *restrict x0 = x[0], *restrict x1 = x[1], *restrict x2 = x[2], *restrict x3 = x[3];
    for (int q = 0; q < n; q++) {
        float z0 = g[0] * x0[q], z1 = g[1] * x1[q], z2 = g[2] * x2[q], z3 = g[3] * x3[q];
        float *restrict row = a[q];
        for (int m = START(q); m < FEATURES; m++)
            row[m] = (((row[m] + z0 * x0[m]) + z1 * x1[m]) + z2 * x2[m]) + z3 * x3[m];
    }
}

/* The prediction of a filter that is solved from the surroundings, those most that are most alike.
 * The network's mean is not among its features. */
VECTORS static float predict_locally(const struct adaptive *ad, const struct site *site)
{
    static const int last[RADIUS + 1] = {-1, 1, 3, 5, 7, 8, 8, 8, 8}; /* column that is known for sure */
    float x[MOST_AROUND + 3][FEATURES], g[MOST_AROUND + 3], target[MOST_AROUND + 3], total = 0;
    int n = site->count - 1, count = 0;
    const float *here = site->features;
    for (int up = RADIUS; up >= 0; up--)
        for (int right = -RADIUS; right <= last[up]; right++) {
            int row = site->row - up, column = site->column + right;
            if (row < 0 || column < 0 || column >= ad->width)
                continue;
            const struct past *there = past(ad, row, column, site->channel);
            float unlike = 0;
            for (int i = 0; i < ALIKE; i++) {
                float d = there->features[i] - here[i];
                unlike += d * d; /* integers: exact */
            }
            g[count] = 1 / ((float)(32 + up * up + right * right) * (20 + unlike));
            total += g[count];
            for (int i = 0; i < FEATURES; i++)
                x[count][i] = there->features[i] - site->base;
            target[count++] = there->value - site->base;
        }
    for (; count % 4; count++) {
        memset(x[count], 0, sizeof x[count]);
        g[count] = target[count] = 0;
    }
    Matrix a;
    Vector b, w, y;
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    for (int i = 0; i < count; i += 4)
        add_products(n, x + i, g + i, a);
    for (int i = 0; i < count; i++) {
        float z = g[i] * target[i];
        for (int m = 0; m < FEATURES; m++)
            b[m] += z * x[i][m];
    }
    for (int q = 0; q < n; q++)
        a[q][q] += total;
    b[0] += 0.5f * total; /* towards half of the left and half of the upper neighbour */
    b[1] += 0.5f * total;
    solve(n, a, b, w);
    for (int i = 0; i < n; i++)
        y[i] = here[i] - site->base;
    return site->base + filtered(n, w, y);
}

/* --- Experts ---------------------------------------------------------------------------------- */

/* 2^16 ln(x), for x >= 1. */
static inline int32_t ln_of(int64_t x)
{
    int digits = 0;
    for (int step = 32; step; step >>= 1)
        if (x >> (digits + step))
            digits += step;
    int64_t y = (digits >= 22 ? x >> (digits - 22) : x << (22 - digits)) - (1 << 22);
    const int32_t *at = ln_table + (y >> 12);
    return digits * LN_2 + at[0] + (int32_t)((at[1] - at[0]) * (y & 4095) >> 12);
}

static inline int64_t squash(int64_t z)
{
    z = clamped(z, -(1 << 18), 1 << 18) + (1 << 18);
    return sigmoid[z >> 8].value + (sigmoid[z >> 8].slope * (z & 255) >> 8);
}

/* How wide a filter's logistic is, from the errors that it made nearby. */
static int32_t scale_of(const struct adaptive *ad, const struct site *site, int filter)
{
    int r = site->row, c = site->column, k = site->channel;
    int32_t near = 4 * (note(ad, r, c - 1, k)->error[filter] + note(ad, r - 1, c, k)->error[filter])
                   + 3 * (note(ad, r - 1, c - 1, k)->error[filter]
                          + note(ad, r - 1, c + 1, k)->error[filter])
                   + 2 * (note(ad, r, c - 2, k)->error[filter]
                          + note(ad, r - 2, c, k)->error[filter]);
    int32_t scale = 35 + near / 24;
    if (k > 0) {
        int32_t before = note(ad, r, c, k - 1)->error[filter];
        scale = (5 * scale + 3 * (before > 77 ? before : 77)) / 10;
    }
    return scale;
}

/* What chooses the weights, besides the node: how far the network has missed nearby for what it
 * promised, and how wide it is and a filter away from it. */
static void look_around(const struct adaptive *ad, struct site *site)
{
    int r = site->row, c = site->column, k = site->channel;
    const struct note *near[] = {note(ad, r, c - 1, k), note(ad, r - 1, c, k),
        note(ad, r - 1, c - 1, k), note(ad, r - 1, c + 1, k), note(ad, r, c, k - (k > 0))};
    static const int weight[] = {2, 2, 1, 1, 2};
    int64_t missed = 16, promised = 16;
    for (int i = 0; i < 4 + (k > 0); i++) {
        missed += weight[i] * near[i]->missed;
        promised += weight[i] * near[i]->spread;
    }
    site->story = (int)clamped((ln_of(missed) - ln_of(promised) + (5 << 15)) >> 15, 0, STORIES - 1);
    int wide = (int)clamped((ln_of(site->spread + 1) - (3 << 16)) >> 15, 0, 11), far = 0;
    if (k > 0)
        far = (near[4]->missed > near[4]->spread) + (near[4]->missed > 2 * near[4]->spread);
    site->width = 3 * wide + far;
    int32_t apart = site->predicted[FILTERS - 1] - site->mean, size = apart < 0 ? -apart : apart;
    int dispute = ln_of(16 * size / (site->spread / 16 + 1) + 1) >> 15;
    site->dispute = (dispute < 9 ? dispute : 9) + (apart < 0 ? DISPUTES / 2 : 0);
}

/* Everything that is known of a sub-pixel before its value. `room` is for so many components. */
static void approach(const struct adaptive *ad, struct site *site, const int32_t *parameters, int k,
    struct component *room)
{
    struct component *own = room, *moved = room + k, *filters = room + 2 * k;
    mixture(parameters, k, own);
    int64_t mean = 0, spread = 0;
    for (int i = 0; i < k; i++)
        mean += own[i].weight * (own[i].mean - 128);
    mean >>= WEIGHT_BITS;
    for (int i = 0; i < k; i++) {
        int64_t away = own[i].mean - 128 - mean;
        spread += own[i].weight * ((1 << 28) / own[i].inverse + (away < 0 ? -away : away));
    }
    site->spread = (int32_t)(spread >> WEIGHT_BITS);
    site->mean = (int32_t)clamped(mean, 0, 255 * 256);
    int n = find_features(ad, site->row, site->column, site->channel, site->features);
    site->features[n] = (float)site->mean / 256;
    site->count = n + 1;
    site->base = (site->features[0] + site->features[1]) / 2;
    for (int i = 0; i < FEATURES; i++)
        site->centred[i] = i < site->count ? site->features[i] - site->base : 0;
    int64_t together = site->mean;
    for (int i = 0; i < FILTERS; i++) {
        float found;
        if (i < RECURSIVE)
            found = site->base + filtered(site->count,
                        ad->recursive[site->channel][i].weights, site->centred);
        else
            found = predict_locally(ad, site);
        site->predicted[i] = rounded(found);
        together += site->predicted[i];
        filters[i].weight = 1 << WEIGHT_BITS;
        filters[i].mean = site->predicted[i] + 128;
        filters[i].inverse = (1 << 28) / scale_of(ad, site, i);
        site->components[1 + i] = filters + i;
        site->counts[1 + i] = 1;
    }
    int32_t away = (int32_t)(together / (FILTERS + 1)) - site->mean;
    for (int i = 0; i < k; i++) {
        moved[i] = own[i];
        moved[i].mean += away;
    }
    site->components[0] = own;
    site->components[EXPERTS - 1] = moved;
    site->counts[0] = site->counts[EXPERTS - 1] = k;
    look_around(ad, site);
}

/* --- Decisions -------------------------------------------------------------------------------- */

/* The eight decisions of a sub-pixel, the highest bit first: where it stands. */
struct decisions {
    int32_t *sets; /* the channel's weights */
    int32_t *chosen[SETS], inputs[INPUTS];
    int64_t bottom[EXPERTS], middle[EXPERTS], top[EXPERTS], chances[SETS];
    int depth, node;
};

static void begin(const struct adaptive *ad, int channel, struct decisions *now)
{
    now->sets = ad->weights + (size_t)channel * SET_ROWS * INPUTS;
    now->depth = 0;
    now->node = 1;
    for (int i = 0; i < EXPERTS; i++) {
        now->bottom[i] = 0;
        now->top[i] = UNIT;
    }
    now->inputs[INPUTS - 1] = 19661; /* 0.3 */
}

/* How likely, out of CHANCES, the next bit is a 1. */
static int64_t chance(const struct site *site, struct decisions *now)
{
    int edge = (2 * now->node + 1) << (7 - now->depth) & 255;
    for (int i = 0; i < EXPERTS; i++) {
        /* So little of the unit is beyond any knowledge: 2^-20 of the network's, 2^-13 of others'. */
        int64_t doubt = i == 0 ? 1 << 16 : 1 << 23;
        int64_t middle = inner_cdf(site->components[i], site->counts[i], edge);
        int32_t up = ln_of(now->top[i] - middle + doubt), down = ln_of(middle - now->bottom[i] + doubt);
        now->middle[i] = middle;
        now->inputs[i] = (int32_t)clamped(up - down, -STRETCH_LIMIT, STRETCH_LIMIT);
    }
    int certainty = (int)clamped((now->inputs[0] + (8 << 16)) >> 15, 0, CERTAINTIES - 1);
    int32_t *row = now->sets;
    const int chosen[SETS] = {now->depth * STORIES + site->story,
        now->depth * CERTAINTIES + certainty, now->node, now->depth * WIDTHS + site->width,
        now->depth * DISPUTES + site->dispute};
    static const int sizes[SETS] = {8 * STORIES, 8 * CERTAINTIES, NODES, 8 * WIDTHS, 8 * DISPUTES};
    int64_t all = 0;
    for (int s = 0; s < SETS; s++) {
        now->chosen[s] = row + chosen[s] * INPUTS;
        row += sizes[s] * INPUTS;
        int64_t total = 0;
        for (int i = 0; i < INPUTS; i++)
            total += (int64_t)now->chosen[s][i] * now->inputs[i];
        total = clamped(total >> 22, -(1 << 18), 1 << 18);
        now->chances[s] = squash(total);
        all += total;
    }
    return clamped(squash((all + (SETS << 18)) / SETS - (1 << 18)), LEAST_CHANCE, CHANCES - LEAST_CHANCE);
}

static void decide(struct decisions *now, int bit)
{
    for (int s = 0; s < SETS; s++) {
        int64_t error = (bit ? CHANCES : 0) - now->chances[s];
        for (int i = 0; i < INPUTS; i++) {
            int64_t step = ((error * now->inputs[i] >> 14) * RATE + (1 << 19)) >> 20;
            now->chosen[s][i] = (int32_t)clamped(now->chosen[s][i] + step, -MOST_WEIGHT, MOST_WEIGHT);
        }
    }
    for (int i = 0; i < EXPERTS; i++)
        *(bit ? &now->bottom[i] : &now->top[i]) = now->middle[i];
    now->node = 2 * now->node + bit;
    now->depth++;
}

/* All that there is to learn of a sub-pixel. */
static void learn_value(struct adaptive *ad, const struct site *site, uint8_t value)
{
    static const float keep[RECURSIVE] = {0.998f, 0.9998f};
    int row = site->row, column = site->column, channel = site->channel;
    struct note *found = (struct note *)note(ad, row, column, channel);
    for (int i = 0; i < FILTERS; i++)
        found->error[i] = abs(256 * value - site->predicted[i]);
    found->missed = abs(256 * value - site->mean);
    found->spread = site->spread;
    struct past *kept = past(ad, row, column, channel);
    memcpy(kept->features, site->features, sizeof kept->features);
    kept->value = value;
    for (int i = 0; i < RECURSIVE; i++)
        learn_recursive(&ad->recursive[channel][i], site->count, site->centred, value - site->base, keep[i]);
    put(ad, row, column, channel, value);
}

/* --- What Python calls ------------------------------------------------------------------------ */

EXPORT void adaptive_tables(const int64_t *exp, const int64_t *inverse, const int64_t *sigmoids)
{
    fill_tables(exp, inverse, sigmoids);
}

EXPORT void adaptive_ln(const int64_t *table)
{
    for (int i = 0; i <= LN_STEPS; i++)
        ln_table[i] = (int32_t)table[i];
}

EXPORT void adaptive_close(struct adaptive *ad)
{
    if (ad == NULL)
        return;
    free(ad->samples), free(ad->past), free(ad->notes), free(ad->weights);
    free(ad);
}

/* The stage of a tile. NULL if there is no memory. */
EXPORT struct adaptive *adaptive_open(int height, int width, int channels)
{
    struct adaptive *ad = calloc(1, sizeof *ad);
    if (ad == NULL)
        return NULL;
    ad->height = height;
    ad->width = width;
    ad->channels = channels;
    ad->pitch = (ptrdiff_t)(width + 2 * BESIDE) * channels;
    size_t rows = (size_t)height * channels, samples = (height + ABOVE) * (size_t)ad->pitch;
    size_t weights = (size_t)channels * SET_ROWS * INPUTS;
    ad->samples = malloc(samples);
    ad->past = calloc(rows * KEPT, sizeof *ad->past);
    ad->notes = calloc(rows * NOTED, sizeof *ad->notes);
    ad->weights = malloc(weights * sizeof *ad->weights);
    if (!ad->samples || !ad->past || !ad->notes || !ad->weights) {
        adaptive_close(ad);
        return NULL;
    }
    memset(ad->samples, 128, samples);
    for (size_t i = 0; i < weights; i++)
        ad->weights[i] = i % INPUTS == 0            ? OWN_WEIGHT
                         : i % INPUTS == INPUTS - 1 ? 0
                                                    : OTHER_WEIGHT;
    for (int channel = 0; channel < channels; channel++)
        for (int i = 0; i < RECURSIVE; i++) {
            int own = channels == 1 ? OWN_ALONE : OWN + 2 * OTHER + channel;
            ad->recursive[channel][i].weights[own] = 1; /* the network's mean */
        }
    return ad;
}

/* A bit's interval, as coding.h makes a nibble's: two guards and two symbols of one each, and this. */
#define SPREAD_OF_BITS (((int64_t)1 << TOTAL_BITS) - 4)

static int decode_bit(struct decoder *decoder, int64_t zero, int *bit)
{
    int64_t q = quantile(decoder);
    if (is_damaged(q))
        return 0;
    *bit = q >= zero + 2;
    advance(decoder, *bit ? zero + 2 : 1, *bit ? SPREAD_OF_BITS - zero + 1 : zero + 1);
    return 1;
}

/* A channel of n sub-pixels in the order of coding, with (n, 3, k) mixtures, k <= MOST_COMPONENTS.
 * With `intervals`, (n, 8, 3), they are filled in for the values (n); otherwise the values are
 * decoded from a payload, of which `state` is how far it is read. Returns 1 if it is damaged. */
EXPORT int adaptive_code(struct adaptive *ad, const int32_t *rows, const int32_t *columns, int64_t n,
    int channel, const int32_t *parameters, int k, uint8_t *values, float *intervals,
    const uint8_t *payload, int64_t length, uint64_t *state)
{
    struct component room[2 * MOST_COMPONENTS + FILTERS];
    struct decoder decoder = {0};
    int damaged = 0;
    fenv_t before;
    if (intervals == NULL) {
        uint64_t read = state[2] < (uint64_t)length ? state[2] : (uint64_t)length;
        decoder = (struct decoder){state[0], state[1], payload + read, payload + length, state[2]};
    }
    fegetenv(&before);
    fesetenv(FE_DFL_ENV); /* whatever the program around us may have asked for */
    for (int64_t i = 0; i < n && !damaged; i++, parameters += 3 * k) {
        struct site site = {.row = rows[i], .column = columns[i], .channel = channel};
        struct decisions now;
        int value = 0;
        approach(ad, &site, parameters, k, room);
        begin(ad, channel, &now);
        for (int place = 7; place >= 0 && !damaged; place--) {
            int64_t zero = SPREAD_OF_BITS - 4 * chance(&site, &now);
            int bit = values[i] >> place & 1;
            if (intervals != NULL) {
                interval(bit, bit ? zero : 0, bit ? SPREAD_OF_BITS : zero, intervals);
                intervals += 3;
            } else {
                damaged = !decode_bit(&decoder, zero, &bit);
            }
            decide(&now, bit);
            value = 2 * value + bit;
        }
        values[i] = (uint8_t)value;
        learn_value(ad, &site, (uint8_t)value);
    }
    fesetenv(&before);
    if (intervals == NULL) {
        state[0] = decoder.offset;
        state[1] = decoder.range;
        state[2] = decoder.position;
    }
    return damaged;
}

#endif
