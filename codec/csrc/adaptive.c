/* The adaptive last stage: what a network says of a sub-pixel, mixed with what its tile has taught.
 *
 * docs/format.md specifies all of it ("Adaptive payloads"). Least squares are solved in binary32,
 * every operation rounded once and in the order that stands here: loops over arrays may be
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
    NEAR_ABOVE = 3,  /* how far neighbours reach */
    NEAR_BESIDE = 5,
    RADIUS = 8,      /* of the surroundings that local filters are solved from */
    ACROSS = 2 * RADIUS,
    AROUND = RADIUS * ACROSS, /* no more, as of the first rows a part is known */
    ABOVE = NEAR_ABOVE + RADIUS,
    BESIDE = NEAR_BESIDE + RADIUS,
    LANES = 8,       /* local filters that are solved side by side */
    ALIKE = 6,       /* neighbours by which surroundings are compared */
    RECURSIVE = 2,   /* filters that never forget all */
    LOCAL = 3,       /* filters from the surroundings: of all features, of the nearest, of six */
    NEAREST = 12, NEAREST_ALONE = 10,
    FILTERS = RECURSIVE + LOCAL,
    EXPERTS = FILTERS + 2, /* the network first, and the network moved last */
    MEMORIES = 8,    /* experts that have counted */
    INPUTS = EXPERTS + MEMORIES + 1, /* with a constant */
    SOLVE_EVERY = 4, /* sub-pixels of a channel */
    NOTED = 8,       /* columns of each row whose errors are kept */
    LN_STEPS = 1024,
    LN_2 = 45426,    /* 2^16 ln 2 */
    SETS = 5,        /* of weights, one of each in use */
    MOST_DECISIONS = 16, /* of a value: one, and up to seven of each kind */
    SIZES = 8, PLACES = 8, JUMPS = 1, HALVINGS = 17, NODES = 49, /* of the decisions' tree */
    STORIES = 12, CERTAINTIES = 32, WIDTHS = 36, DISPUTES = 20,
    SET_ROWS = PLACES * (STORIES + CERTAINTIES + WIDTHS + DISPUTES) + NODES * SIZES, /* of a channel */
    OWN_WEIGHT = 1050000,  /* of what the network says; a weight is in units of 2^-20 */
    OTHER_WEIGHT = 100000, /* of how far away from that the others are */
    MEMORY_WEIGHT = 40000,
    MOST_WEIGHT = 1 << 25,
    RATE = 400,
    STRETCH_LIMIT = 12 << 16,
    CHANCES = 1 << 22, /* what a squashed probability is out of */
    LEAST_CHANCE = 8,
    REACH = 16,           /* values that a memory tells apart ... */
    BELOW = 7,            /* ... and how many are less than what it expects */
    CONTEXT_BITS = 14,
    COUNT = 32,           /* what a value adds */
    MOST_COUNTED = 1 << 14,
    DOUBT = 48,           /* counts on either side of an edge of which nothing is known */
};

/* 2^16 ln(1 + i / 1024); whoever loads this code fills it in. */
static int32_t ln_table[LN_STEPS + 1];

/* How much less surroundings count that are further away. */
static float nearness[AROUND];
static int8_t rows_up[AROUND], columns_right[AROUND]; /* from the sub-pixel */

static const int8_t neighbours[OWN_ALONE][2] = {
    {0, -1}, {-1, 0}, {-1, -1}, {-1, 1}, {0, -2}, {-2, 0}, {-2, 1}, {-2, -1}, {-1, -2}, {-2, 2},
    {0, -3}, {-3, 0}, {-2, -2}, {-1, -3}, {0, -4}, {-3, 1}, {-3, -1}, {-2, 3}, {-3, 2}, {-2, -3},
};

/* The same loops for longer vectors, where the compiler can choose when the program is loaded. */
#if !defined(NO_CLONES) && defined(__GLIBC__) && defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define VECTORS __attribute__((target_clones("avx2", "default")))
#define INLINE static inline __attribute__((always_inline))
#if __GNUC__ >= 11
#define HAS_VNNI
#include <immintrin.h>
#endif
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

/* How often which values came in a context, relative to what was expected there. */
typedef uint16_t Counts[REACH];

/* What stays known of a sub-pixel for a while. */
struct note {
    int32_t error[FILTERS], missed, spread; /* in 1/256 of a value */
};

struct adaptive {
    int32_t height, width, channels;
    ptrdiff_t pitch;
    uint8_t *samples;   /* (channels, ABOVE + height, pitch): with those outside of the tile */
    struct note *notes; /* (height, NOTED, channels) */
    struct recursive recursive[3][RECURSIVE];
    int32_t *weights;   /* (channels, SET_ROWS, INPUTS) */
    Counts *counts;     /* (channels, MEMORIES, 2^CONTEXT_BITS) */
};

/* One sub-pixel under way. */
struct site {
    int row, column, channel;
    int count; /* of features */
    const uint8_t *at[FEATURES]; /* where they are, but for the last */
    Vector centred;
    float base;
    int32_t mean, spread, predicted[FILTERS], away; /* how far the moved network is moved */
    struct component filters[FILTERS];
    const struct component *mixture;
    int components;
    int story, width, dispute, centre, size;
    uint16_t *counts[MEMORIES];
    int lowest[MEMORIES]; /* the value of the first of these */
    int32_t below[MEMORIES][REACH + 1]; /* their sums */
};

/* --- Samples ---------------------------------------------------------------------------------- */

static inline uint8_t *sample(const struct adaptive *ad, int row, int column, int channel)
{
    ptrdiff_t line = ((ptrdiff_t)ad->height + ABOVE) * channel + ABOVE + row;
    return ad->samples + line * ad->pitch + BESIDE + column;
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
    uint8_t *here = sample(ad, row, column, channel);
    *here = value;
    for (int i = 1; column == 0 && row + 1 < ad->height && i <= NEAR_BESIDE; i++)
        here[ad->pitch - i] = value;
    for (int i = 1; column == ad->width - 1 && i <= NEAR_BESIDE; i++)
        here[i] = value;
    for (int up = 1; row == 0 && up <= NEAR_ABOVE; up++)
        if (column + up + 2 < ad->width + NEAR_BESIDE)
            here[up + 2 - up * ad->pitch] = value;
}

static int find_features(
    const struct adaptive *ad, int row, int column, int channel, const uint8_t **at)
{
    int channels = ad->channels, count = 0;
    for (int i = 0; i < (channels == 1 ? OWN_ALONE : OWN); i++)
        at[count++] = sample(ad, row + neighbours[i][0], column + neighbours[i][1], channel);
    for (int other = 0; other < channels; other++) {
        if (other == channel)
            continue;
        if (other < channel)
            at[count++] = sample(ad, row, column, other);
        for (int i = 0; i < OTHER; i++)
            at[count++] = sample(ad, row + neighbours[i][0], column + neighbours[i][1], other);
    }
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

/* The samples of the surroundings as one row, of which some at the end of upper rows are not known
 * yet: rows 2 and 3, what is known of 0 and 1, and the others. `here` is in the row of the sub-pixel. */
INLINE void gather(const uint8_t *here, ptrdiff_t pitch, uint8_t *restrict around)
{
    const uint8_t *first = here - RADIUS, *second = first - pitch;
    memcpy(around, first - 2 * pitch, ACROSS);
    memcpy(around + ACROSS, first - 3 * pitch, ACROSS - 2);
    memcpy(around + 2 * ACROSS - 2, second + RADIUS, 2);
    memcpy(around + 2 * ACROSS, first, RADIUS);
    memcpy(around + 2 * ACROSS + RADIUS, second, RADIUS);
    for (int up = 4; up <= RADIUS; up++)
        memcpy(around + (up - 1) * ACROSS, first - up * pitch, ACROSS);
}

/* Where these are, and how much they count. */
static void fill_nearness(void)
{
    for (int s = 0; s < AROUND; s++) {
        int up = s / ACROSS + 1, right = s % ACROSS - RADIUS;
        if (up == 1)
            up = 2;
        else if (up == 2)
            up = s < 2 * ACROSS - 2 ? 3 : 1, right = up == 3 ? right : s - 2 * ACROSS + 2;
        else if (up == 3)
            up = right >= 0, right = right < 0 ? right : right - RADIUS;
        rows_up[s] = (int8_t)up;
        columns_right[s] = (int8_t)right;
        nearness[s] = up == 2 && right > 3 ? 0 : (float)(648000 / (18 + up + abs(right)));
    }
}

/* How much each of the surroundings counts: the more, the nearer it is and the more like these its
 * own neighbours are. 0 if it is not known. */
INLINE void find_alike(const struct adaptive *ad, const struct site *site,
    uint8_t (*restrict around)[AROUND], int16_t *restrict g)
{
    int16_t here[ALIKE], unlike[AROUND];
    for (int i = 0; i < ALIKE; i++)
        here[i] = *site->at[i];
    for (int s = 0; s < AROUND; s++) {
        int16_t all = 9;
        for (int i = 0; i < ALIKE; i++)
            all = (int16_t)(all + abs(around[i][s] - here[i]));
        unlike[s] = all;
    }
    for (int s = 0; s < AROUND; s++) /* so small that it is the floor */
        g[s] = (int16_t)(int32_t)(nearness[s] / (float)unlike[s]);
    int left = site->column, right = ad->width - site->column;
    if (site->row >= RADIUS && left >= RADIUS && right >= RADIUS)
        return;
    for (int s = 0; s < AROUND; s++)
        if (rows_up[s] > site->row || -columns_right[s] > left || columns_right[s] >= right)
            g[s] = 0;
}

/* The products of n features and, behind them, their target, as lane `lane` of a. */
INLINE void multiply(
    int n, int16_t (*restrict x)[AROUND], int lane, float (*restrict a)[FEATURES][LANES])
{
    for (int q = 0; q < n; q++)
        for (int m = q; m <= n; m++) {
            int32_t sum = 0;
            for (int s = 0; s < AROUND; s++)
                sum += x[q][s] * x[m][s];
            a[q][m][lane] = (float)sum;
        }
}

#ifdef HAS_VNNI
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
static int has_vnni;

/* The sums of eight vectors. */
VNNI INLINE __m256i eight_sums(const __m512i *of)
{
    __m256i fours[2];
    for (int i = 0; i < 2; i++, of += 4) {
        __m512i one = _mm512_add_epi32(
            _mm512_unpacklo_epi32(of[0], of[1]), _mm512_unpackhi_epi32(of[0], of[1]));
        __m512i two = _mm512_add_epi32(
            _mm512_unpacklo_epi32(of[2], of[3]), _mm512_unpackhi_epi32(of[2], of[3]));
        one = _mm512_add_epi32(_mm512_unpacklo_epi64(one, two), _mm512_unpackhi_epi64(one, two));
        fours[i] = _mm256_add_epi32(_mm512_castsi512_si256(one), _mm512_extracti64x4_epi64(one, 1));
    }
    return _mm256_add_epi32(_mm256_permute2x128_si256(fours[0], fours[1], 0x20),
        _mm256_permute2x128_si256(fours[0], fours[1], 0x31));
}

/* The same as `multiply`. */
VNNI INLINE void multiply_vnni(
    int n, int16_t (*restrict x)[AROUND], int lane, float (*restrict a)[FEATURES][LANES])
{
    enum { PARTS = AROUND / 32 };
    for (int q = 0; q < n; q++) {
        __m512i own[PARTS], sums[8];
        for (int part = 0; part < PARTS; part++)
            own[part] = _mm512_loadu_si512(x[q] + 32 * part);
        for (int m = q; m <= n; m += 8) {
            for (int i = 0; i < 8; i++) {
                const int16_t *other = x[m + i <= n ? m + i : n];
                sums[i] = _mm512_setzero_si512();
                for (int part = 0; part < PARTS; part++)
                    sums[i] = _mm512_dpwssd_epi32(
                        sums[i], own[part], _mm512_loadu_si512(other + 32 * part));
            }
            float found[8];
            _mm256_storeu_ps(found, _mm256_cvtepi32_ps(eight_sums(sums)));
            for (int i = 0; i < 8 && m + i <= n; i++)
                a[q][m + i][lane] = found[i];
        }
    }
}
#endif

/* What a local filter is solved from. */
INLINE void look_back(const struct adaptive *ad, const struct site *site, int lane,
    float (*restrict a)[FEATURES][LANES],
    void (*multiplied)(int, int16_t (*restrict)[AROUND], int, float (*restrict)[FEATURES][LANES]))
{
    uint8_t around[FEATURES][AROUND];
    int16_t g[AROUND], x[FEATURES][AROUND];
    int n = site->count - 1, base = 64 * (*site->at[0] + *site->at[1]); /* everything times 128 */
    for (int q = 0; q < n; q++)
        gather(site->at[q], ad->pitch, around[q]);
    gather(sample(ad, site->row, site->column, site->channel), ad->pitch, around[n]);
    find_alike(ad, site, around, g);
    for (int q = 0; q <= n; q++)
        for (int s = 0; s < AROUND; s++) {
            int16_t centred = (int16_t)(128 * around[q][s] - base);
            x[q][s] = (int16_t)(((centred * g[s] >> 14) + 1) >> 1);
        }
    multiplied(n, x, lane, a);
    int32_t total = 0;
    for (int s = 0; s < AROUND; s++)
        total += g[s] * g[s];
    float ridge = total > 1 << 16 ? (float)total / (1 << 16) : 1;
    for (int q = 0; q < n; q++)
        a[q][q][lane] += ridge;
    a[0][n][lane] += 0.5f * ridge; /* towards half of the left and half of the upper neighbour */
    a[1][n][lane] += 0.5f * ridge;
}

VECTORS static void look_back_plain(
    const struct adaptive *ad, const struct site *site, int lane, float (*restrict a)[FEATURES][LANES])
{
    look_back(ad, site, lane, a, multiply);
}

#ifdef HAS_VNNI
VNNI static void look_back_vnni(
    const struct adaptive *ad, const struct site *site, int lane, float (*restrict a)[FEATURES][LANES])
{
    look_back(ad, site, lane, a, multiply_vnni);
}
#endif

/* Eliminate n unknowns as in `solve`; the right sides are behind them. */
VECTORS static void eliminate(int n, float (*restrict a)[FEATURES][LANES])
{
    for (int j = 0; j < n; j++) {
        float *restrict d = a[j][j];
        for (int l = 0; l < LANES; l++)
            d[l] = d[l] >= 0x1p-40f ? d[l] : 0x1p-40f;
        for (int i = j + 1; i < n; i++) {
            float f[LANES];
            for (int l = 0; l < LANES; l++)
                f[l] = a[j][i][l] / d[l];
            for (int m = i; m <= n; m++)
                for (int l = 0; l < LANES; l++)
                    a[i][m][l] -= f[l] * a[j][m][l];
        }
    }
}

/* What filters predict that have the first `count` of n features, less the base. */
VECTORS static void predict(int count, int n, float (*restrict a)[FEATURES][LANES],
    float (*restrict y)[LANES], float *restrict found)
{
    float b[FEATURES][LANES], w[FEATURES][LANES];
    for (int i = 0; i < count; i++)
        memcpy(b[i], a[i][n], sizeof b[i]);
    for (int i = count - 1; i >= 0; i--) {
        for (int l = 0; l < LANES; l++)
            w[i][l] = b[i][l] / a[i][i][l];
        for (int m = 0; m < i; m++)
            for (int l = 0; l < LANES; l++)
                b[m][l] -= a[m][i][l] * w[i][l];
    }
    for (int l = 0; l < LANES; l++)
        found[l] = 0;
    for (int i = 0; i < count; i++)
        for (int l = 0; l < LANES; l++)
            found[l] += w[i][l] * y[i][l];
}

/* The predictions of the filters that are solved from the surroundings, of up to LANES sub-pixels of
 * a front. The network's mean is not among their features. */
static void predict_locally(const struct adaptive *ad, struct site *sites, int some)
{
    float a[FEATURES][FEATURES][LANES], y[FEATURES][LANES], found[LANES];
    int n = sites->count - 1, alone = ad->channels == 1;
    const int counts[LOCAL] = {n, alone ? NEAREST_ALONE : NEAREST, ALIKE};
    if (some < LANES)
        memset(a, 0, sizeof a), memset(y, 0, sizeof y);
    for (int lane = 0; lane < some; lane++) {
#ifdef HAS_VNNI
        if (has_vnni)
            look_back_vnni(ad, sites + lane, lane, a);
        else
#endif
            look_back_plain(ad, sites + lane, lane, a);
        for (int i = 0; i < n; i++)
            y[i][lane] = sites[lane].centred[i];
    }
    eliminate(n, a);
    for (int i = 0; i < LOCAL; i++) {
        predict(counts[i], n, a, y, found);
        for (int lane = 0; lane < some; lane++)
            sites[lane].predicted[RECURSIVE + i] = rounded(sites[lane].base + found[lane]);
    }
}

/* --- Experts ---------------------------------------------------------------------------------- */

static inline int highest_bit(uint64_t x)
{
#ifdef __GNUC__
    return 63 - __builtin_clzll(x);
#else
    int digits = 0;
    for (int step = 32; step; step >>= 1)
        if (x >> (digits + step))
            digits += step;
    return digits;
#endif
}

/* 2^16 ln(x), for x >= 1. */
static inline int32_t ln_of(int64_t x)
{
    int digits = highest_bit((uint64_t)x);
    int64_t y = (digits >= 22 ? x >> (digits - 22) : x << (22 - digits)) - (1 << 22);
    const int32_t *at = ln_table + (y >> 12);
    return digits * LN_2 + at[0] + (int32_t)((at[1] - at[0]) * (y & 4095) >> 12);
}

static inline int64_t squash(int64_t z)
{
    z = clamped(z, -(1 << 18), 1 << 18) + (1 << 18);
    return sigmoid[z >> 8].value + (sigmoid[z >> 8].slope * (z & 255) >> 8);
}

/* C of a mixture at a place in 1/256 of a value, in units of 2^-36. */
static inline int64_t cdf_at(const struct component *mixture, int count, int place)
{
    int64_t total = 0;
    for (int i = 0; i < count; i++)
        total += mixture[i].weight
                 * squash((int64_t)(place - mixture[i].mean) * mixture[i].inverse >> 14);
    return total;
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
    int32_t apart = site->predicted[RECURSIVE] - site->mean, size = apart < 0 ? -apart : apart;
    int dispute = ln_of(16 * size / (site->spread / 16 + 1) + 1) >> 15;
    site->dispute = (dispute < 9 ? dispute : 9) + (apart < 0 ? DISPUTES / 2 : 0);
}

/* --- Memories --------------------------------------------------------------------------------- */

/* The counts of the context of three numbers from -512 to 511, of values about `expected`. */
static void remember(const struct adaptive *ad, struct site *site, int i, int a, int b, int c, int expected)
{
    uint32_t all = (uint32_t)(a + 512) << 20 | (uint32_t)(b + 512) << 10 | (uint32_t)(c + 512);
    size_t context = (size_t)(all * 0x9E3779B1u >> (32 - CONTEXT_BITS));
    Counts *own = ad->counts + ((size_t)(MEMORIES * site->channel + i) << CONTEXT_BITS);
    site->counts[i] = own[context];
    site->lowest[i] = expected - BELOW;
    int32_t total = 0;
    for (int q = 0; q < REACH; q++) {
        site->below[i][q] = total;
        total += site->counts[i][q];
    }
    site->below[i][REACH] = total;
}

/* The contexts are differences, exactly: of channels, where there are earlier ones. Where these have
 * little detail of their own they repeat, and what comes then is known better than by any filter. */
static void remember_all(const struct adaptive *ad, struct site *site)
{
    ptrdiff_t up = -ad->pitch;
    int channel = site->channel, alone = channel == 1;
    const uint8_t *own = sample(ad, site->row, site->column, channel);
    if (channel == 0) {
        int left = own[-1], above = own[up], corner = own[up - 1], right = own[up + 1];
        remember(ad, site, 0, above - own[2 * up], left - corner, 0, above);
        remember(ad, site, 1, left - own[-2], above - corner, 0, left);
        remember(ad, site, 2, left - corner, above - corner, 0, left + above - corner);
        remember(ad, site, 3, above - corner, right - above, 0, above);
        remember(ad, site, 4, above - own[2 * up], left - own[-2], 0, (left + above) >> 1);
        remember(ad, site, 5, left, above, 0, (left + above) >> 1);
        remember(ad, site, 6, left - above, right - above, 0, above);
        remember(ad, site, 7, right - own[2 * up], left - corner, 0, right);
        return;
    }
    /* At the sub-pixel, at left and above, at the corner, at right above, and two away. */
    const ptrdiff_t places[] = {0, -1, up, up - 1, up + 1, -2, 2 * up};
    const uint8_t *last = sample(ad, site->row, site->column, channel - 1);
    const uint8_t *first = sample(ad, site->row, site->column, channel - 1 - !alone);
    int d[7], u[7]; /* differences from the channel before, and of that */
    for (int i = 0; i < 7; i++) {
        ptrdiff_t place = places[i];
        d[i] = i > 0 ? own[place] - last[place] : 0;
        u[i] = last[place] - (alone ? 0 : first[place]);
    }
    int here = last[0];
    remember(ad, site, 0, d[2], u[0] - u[2], alone ? 0 : u[2], here + d[2]);
    remember(ad, site, 1, d[1], u[0] - u[1], alone ? 0 : u[1], here + d[1]);
    remember(ad, site, 2, d[1], d[2], 0, here + ((d[1] + d[2]) >> 1));
    remember(ad, site, 3, d[2], d[4], 0, here + ((d[2] + d[4]) >> 1));
    remember(ad, site, 4, d[2], d[6], 0, here + d[2]);
    remember(ad, site, 5, d[1], d[5], 0, here + d[1]);
    remember(ad, site, 6, d[3], u[0] - u[3], alone ? 0 : u[3], here + d[3]);
    remember(ad, site, 7, d[4], u[0] - u[4], alone ? 0 : u[4], here + d[4]);
}

static void learn_counts(const struct site *site, int value)
{
    for (int i = 0; i < MEMORIES; i++) {
        uint16_t *counts = site->counts[i];
        counts[clamped(value - site->lowest[i], 0, REACH - 1)] += COUNT;
        if (site->below[i][REACH] + COUNT > MOST_COUNTED)
            for (int q = 0; q < REACH; q++)
                counts[q] -= counts[q] >> 1;
    }
}

/* --- Sub-pixels ------------------------------------------------------------------------------- */

/* What the network says of a sub-pixel, and its features. */
static void begin_site(const struct adaptive *ad, struct site *site, const int32_t *parameters, int k,
    struct component *own)
{
    mixture(parameters, k, own);
    int64_t mean = 0, spread = 0;
    for (int i = 0; i < k; i++)
        mean += own[i].weight * (own[i].mean - 128);
    mean >>= WEIGHT_BITS;
    for (int i = 0; i < k; i++) {
        int64_t away = own[i].mean - 128 - mean;
        spread += own[i].weight * ((1 << 28) / own[i].inverse + (away < 0 ? -away : away));
    }
    site->mixture = own;
    site->components = k;
    site->spread = (int32_t)(spread >> WEIGHT_BITS);
    site->mean = (int32_t)clamped(mean, 0, 255 * 256);
    int n = find_features(ad, site->row, site->column, site->channel, site->at);
    site->count = n + 1;
    site->base = (float)(*site->at[0] + *site->at[1]) / 2;
    memset(site->centred, 0, sizeof site->centred);
    for (int i = 0; i < n; i++)
        site->centred[i] = *site->at[i] - site->base;
    site->centred[n] = (float)site->mean / 256 - site->base;
}

/* What the filters that learn from sub-pixel to sub-pixel say, and what follows from all of them. */
static void end_site(const struct adaptive *ad, struct site *site)
{
    for (int i = 0; i < RECURSIVE; i++)
        site->predicted[i] = rounded(site->base + filtered(site->count,
                                 ad->recursive[site->channel][i].weights, site->centred));
    int32_t together = site->mean;
    for (int i = 0; i <= RECURSIVE; i++)
        together += site->predicted[i];
    together /= RECURSIVE + 2;
    site->away = together - site->mean;
    site->centre = (int)clamped((together + 128) >> 8, 1, 255);
    site->size = 0;
    while (site->size < SIZES - 1 && (int64_t)185 << site->size < site->spread)
        site->size++;
    for (int i = 0; i < FILTERS; i++)
        site->filters[i] = (struct component){1 << WEIGHT_BITS, site->predicted[i] + 128,
            (1 << 28) / scale_of(ad, site, i)};
    look_around(ad, site);
    remember_all(ad, site);
}

/* --- Decisions -------------------------------------------------------------------------------- */

/* The decisions of a sub-pixel: its value lies from `low` up to, not including, `high`; the next one
 * is whether it is at least `edge`. */
struct decisions {
    int32_t *sets; /* the channel's weights */
    int32_t *chosen[SETS], inputs[INPUTS];
    int64_t bottom[EXPERTS], middle[EXPERTS], top[EXPERTS], chances[SETS];
    int low, high, edge, side, jumps, is_between, node, place;
};

/* To the next decision; 0 if there is none. First it is on which side of the centre the value lies,
 * then whether it is further away than a growing distance, then in which half of what is left. */
static int next_decision(const struct site *site, struct decisions *now)
{
    int width = now->high - now->low, jumps = now->jumps;
    if (width == 1)
        return 0;
    if (jumps < 0) {
        now->edge = site->centre;
        now->node = now->place = 0;
        return 1;
    }
    int reach = ((2 << jumps) - 1) << site->size;
    int edge = site->centre + (now->side ? reach : -reach);
    now->is_between |= edge <= now->low || edge >= now->high;
    if (now->is_between) {
        int level = (width > 2) + (width > 4) + (width > 8);
        now->edge = (now->low + now->high) >> 1;
        now->node = HALVINGS + 4 * (4 * now->side + (jumps < 3 ? jumps : 3)) + level;
        now->place = 4 + level;
    } else {
        now->edge = edge;
        now->node = JUMPS + SIZES * now->side + jumps;
        now->place = jumps < 2 ? 1 + jumps : 3;
    }
    return 1;
}

static void begin(const struct adaptive *ad, int channel, struct decisions *now)
{
    now->sets = ad->weights + (size_t)channel * SET_ROWS * INPUTS;
    now->low = now->side = now->is_between = 0;
    now->high = 256;
    now->jumps = -1;
    for (int i = 0; i < EXPERTS; i++) {
        now->bottom[i] = 0;
        now->top[i] = UNIT;
    }
    now->inputs[INPUTS - 1] = 19661; /* 0.3 */
}

/* An expert's C at an edge. */
static inline int64_t opinion(const struct site *site, int expert, int edge)
{
    if (expert == 0)
        return cdf_at(site->mixture, site->components, 256 * edge);
    if (expert == EXPERTS - 1)
        return cdf_at(site->mixture, site->components, 256 * edge - site->away);
    return cdf_at(site->filters + expert - 1, 1, 256 * edge);
}

/* A memory's opinion of a decision, stretched. */
static inline int32_t remembered(const struct site *site, int i, const struct decisions *now)
{
    const int32_t *below = site->below[i];
    int32_t least = below[clamped(now->low - site->lowest[i], 0, REACH)];
    int32_t edge = below[clamped(now->edge - site->lowest[i], 0, REACH)];
    int32_t most = below[clamped(now->high - site->lowest[i], 0, REACH)];
    return ln_of(most - edge + DOUBT) - ln_of(edge - least + DOUBT);
}

/* How likely, out of CHANCES, the value is at least the edge. */
static int64_t chance(const struct site *site, struct decisions *now)
{
    for (int i = 0; i < EXPERTS; i++) {
        /* So little of the unit is beyond any knowledge: 2^-20 of the network's, 2^-13 of others'. */
        int64_t doubt = i == 0 ? 1 << 16 : 1 << 23;
        int64_t middle = opinion(site, i, now->edge);
        int32_t up = ln_of(now->top[i] - middle + doubt), down = ln_of(middle - now->bottom[i] + doubt);
        now->middle[i] = middle;
        now->inputs[i] = (int32_t)clamped(up - down, -STRETCH_LIMIT, STRETCH_LIMIT);
        now->inputs[i] -= i > 0 ? now->inputs[0] : 0;
    }
    for (int i = 0; i < MEMORIES; i++)
        now->inputs[EXPERTS + i] = remembered(site, i, now);
    int certainty = (int)clamped((now->inputs[0] + (8 << 16)) >> 15, 0, CERTAINTIES - 1);
    int32_t *row = now->sets;
    const int chosen[SETS] = {now->place * STORIES + site->story,
        now->place * CERTAINTIES + certainty, now->node * SIZES + site->size,
        now->place * WIDTHS + site->width, now->place * DISPUTES + site->dispute};
    static const int sizes[SETS] = {PLACES * STORIES, PLACES * CERTAINTIES, NODES * SIZES,
        PLACES * WIDTHS, PLACES * DISPUTES};
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

static void decide(struct decisions *now, int is_above)
{
    for (int s = 0; s < SETS; s++) {
        int64_t error = (is_above ? CHANCES : 0) - now->chances[s];
        for (int i = 0; i < INPUTS; i++) {
            int64_t step = ((error * now->inputs[i] >> 14) * RATE + (1 << 19)) >> 20;
            now->chosen[s][i] = (int32_t)clamped(now->chosen[s][i] + step, -MOST_WEIGHT, MOST_WEIGHT);
        }
    }
    for (int i = 0; i < EXPERTS; i++)
        *(is_above ? &now->bottom[i] : &now->top[i]) = now->middle[i];
    *(is_above ? &now->low : &now->high) = now->edge;
    if (now->jumps < 0)
        now->side = is_above;
    else if (!now->is_between && is_above != now->side)
        now->is_between = 1;
    now->jumps += !now->is_between;
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
    for (int i = 0; i < RECURSIVE; i++)
        learn_recursive(&ad->recursive[channel][i], site->count, site->centred, value - site->base, keep[i]);
    learn_counts(site, value);
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
    fill_nearness();
#ifdef HAS_VNNI
    __builtin_cpu_init();
    has_vnni = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
               && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#endif
}

EXPORT void adaptive_close(struct adaptive *ad)
{
    if (ad == NULL)
        return;
    free(ad->samples), free(ad->notes), free(ad->weights), free(ad->counts);
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
    ad->pitch = width + 2 * BESIDE;
    size_t rows = (size_t)height * channels, samples = (rows + channels * ABOVE) * (size_t)ad->pitch;
    size_t weights = (size_t)channels * SET_ROWS * INPUTS;
    ad->samples = malloc(samples);
    ad->notes = calloc(rows * NOTED, sizeof *ad->notes);
    ad->weights = malloc(weights * sizeof *ad->weights);
    ad->counts = calloc((size_t)channels * MEMORIES << CONTEXT_BITS, sizeof *ad->counts);
    if (!ad->samples || !ad->notes || !ad->weights || !ad->counts) {
        adaptive_close(ad);
        return NULL;
    }
    memset(ad->samples, 128, samples);
    for (size_t i = 0; i < weights; i++) {
        static const int32_t first[INPUTS] = {
            OWN_WEIGHT, OTHER_WEIGHT, OTHER_WEIGHT, OTHER_WEIGHT, 0, 0, OTHER_WEIGHT,
            MEMORY_WEIGHT, MEMORY_WEIGHT, MEMORY_WEIGHT, MEMORY_WEIGHT,
            MEMORY_WEIGHT, MEMORY_WEIGHT, MEMORY_WEIGHT, MEMORY_WEIGHT, 0};
        ad->weights[i] = first[i % INPUTS];
    }
    for (int channel = 0; channel < channels; channel++)
        for (int i = 0; i < RECURSIVE; i++) {
            int own = channels == 1 ? OWN_ALONE : OWN + 2 * OTHER + channel;
            ad->recursive[channel][i].weights[own] = 1; /* the network's mean */
        }
    return ad;
}

/* A decision's interval, as coding.h makes a nibble's: two guards and two symbols of one each, and this. */
#define SPREAD_OF_TWO (((int64_t)1 << TOTAL_BITS) - 4)

static int decode_decision(struct decoder *decoder, int64_t zero, int *is_above)
{
    int64_t q = quantile(decoder);
    if (is_damaged(q))
        return 0;
    *is_above = q >= zero + 2;
    advance(decoder, *is_above ? zero + 2 : 1, *is_above ? SPREAD_OF_TWO - zero + 1 : zero + 1);
    return 1;
}

/* A sub-pixel: what it takes to code a value at `counts` is written to *intervals, or without them
 * the value is decoded. Not 0 if it is damaged. */
static int code_site(struct adaptive *ad, const struct site *site, uint8_t *value, float **intervals,
    uint8_t *count, struct decoder *decoder)
{
    struct decisions now;
    begin(ad, site->channel, &now);
    *count = 0;
    while (next_decision(site, &now)) {
        int64_t zero = SPREAD_OF_TWO - 4 * chance(site, &now);
        int is_above = *value >= now.edge;
        if (*intervals != NULL) {
            interval(is_above, is_above ? zero : 0, is_above ? SPREAD_OF_TWO : zero, *intervals);
            *intervals += 3;
            ++*count;
        } else if (!decode_decision(decoder, zero, &is_above)) {
            return 1;
        }
        decide(&now, is_above);
    }
    *value = (uint8_t)now.low;
    return 0;
}

/* A channel of n sub-pixels of a front in the order of coding, with (n, 3, k) mixtures,
 * k <= MOST_COMPONENTS. With `intervals`, room for (n, MOST_DECISIONS, 3), these are filled in for the
 * values (n), without gaps, and `counts` (n) says how many each has; otherwise the values are decoded
 * from a payload, of which `state` is how far it is read. Returns 1 if it is damaged. */
EXPORT int adaptive_code(struct adaptive *ad, const int32_t *rows, const int32_t *columns, int64_t n,
    int channel, const int32_t *parameters, int k, uint8_t *values, float *intervals, uint8_t *counts,
    const uint8_t *payload, int64_t length, uint64_t *state)
{
    struct component room[LANES * MOST_COMPONENTS];
    struct decoder decoder = {0};
    int damaged = 0;
    fenv_t before;
    if (intervals == NULL) {
        uint64_t read = state[2] < (uint64_t)length ? state[2] : (uint64_t)length;
        decoder = (struct decoder){state[0], state[1], payload + read, payload + length, state[2]};
    }
    fegetenv(&before);
    fesetenv(FE_DFL_ENV); /* whatever the program around us may have asked for */
    for (int64_t i = 0; i < n && !damaged; i += LANES) {
        struct site sites[LANES];
        int some = n - i < LANES ? (int)(n - i) : LANES;
        for (int j = 0; j < some; j++) {
            sites[j].row = rows[i + j];
            sites[j].column = columns[i + j];
            sites[j].channel = channel;
            begin_site(ad, sites + j, parameters + 3 * k * (i + j), k, room + k * j);
        }
        predict_locally(ad, sites, some);
        for (int j = 0; j < some && !damaged; j++) {
            end_site(ad, sites + j);
            damaged = code_site(ad, sites + j, values + i + j, &intervals, counts + i + j, &decoder);
            learn_value(ad, sites + j, values[i + j]);
        }
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
