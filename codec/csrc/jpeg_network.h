/* `dct`, a network that says of a JPEG's block where it will end, and of each of its coefficients
 * near what value it will be, and how near.
 *
 * Layers add up products of integers from -127 to 127, so no instruction set has to round, and all
 * sums are the same. docs/format.md, "The network of coefficients", says all of it. */

#ifndef PIXELZIP_JPEG_NETWORK_H
#define PIXELZIP_JPEG_NETWORK_H

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#define HAS_VECTORS
#include <immintrin.h>
#endif

#if defined(__GNUC__)
#define ALIGNED __attribute__((aligned(64)))
#else
#define ALIGNED
#endif

enum {
    WIDTH = 192,
    AROUND_INPUTS = 316,
    EARLIER_INPUTS = 192,
    PLANE_INPUTS = 69,
    INPUTS_OF_FIRST = AROUND_INPUTS + EARLIER_INPUTS + PLANE_INPUTS,
    STAGES = 14,
    EDGES = 16,
    LANES = 16, /* outputs come in so many */
    MOST_HEADS = 32,
    WHOLE = 96, /* a logarithm of scales: that of one step */
};

static const int stage_starts[STAGES + 1] = {64, 54, 43, 36, 28, 21, 15, 10, 8, 6, 4, 3, 2, 1, 0};

/* The weights of a layer, in the order in which they are used: of four inputs, each output's. */
struct layer {
    int8_t *weights;
    int32_t *biases;
    int inputs, outputs; /* multiples of 4 and of LANES */
};

enum { LAYERS = 4 + 3 * STAGES - 1 }; /* first, second, base, end; edges, heads, what was shown */
enum { FIRST_LAYER, SECOND_LAYER, BASE_LAYER, END_LAYER, EDGE_LAYERS };
enum { HEAD_LAYERS = EDGE_LAYERS + STAGES, SHOWN_LAYERS = HEAD_LAYERS + STAGES };
enum { ROOM = WIDTH * (INPUTS_OF_FIRST + 3 + 2 * WIDTH + LANES + STAGES * (EDGES + MOST_HEADS) + 160) };

static int8_t all_weights[ROOM] ALIGNED;
static int32_t all_biases[LAYERS * WIDTH], end_sums[64][WIDTH];
static uint8_t hidden_shifts[3][WIDTH], base_shifts[WIDTH], head_shifts[1 + STAGES][MOST_HEADS];
static struct layer layers[LAYERS];

/* --- Products --------------------------------------------------------------------------------- */

typedef void product(const struct layer *layer, int from, int count, const int8_t *inputs,
    int32_t *sums);

/* Add to `sums` what `count` inputs, a multiple of 4, say, which are those of the layer from `from`
 * on. */
static void plain_product(const struct layer *layer, int from, int count, const int8_t *inputs,
    int32_t *sums)
{
    const int8_t *weights = layer->weights + (int64_t)from * layer->outputs;
    for (int i = 0; i < count; i += 4, weights += 4 * layer->outputs) {
        int32_t a = inputs[i], b = inputs[i + 1], c = inputs[i + 2], d = inputs[i + 3];
        if (!(a | b | c | d))
            continue;
        for (int j = 0; j < layer->outputs; j++)
            sums[j] += a * weights[4 * j] + b * weights[4 * j + 1] + c * weights[4 * j + 2]
                + d * weights[4 * j + 3];
    }
}

#ifdef HAS_VECTORS
/* Magnitudes of the weights, and inputs with the weights' signs: no pair is beyond 16 bits. */
__attribute__((target("avx2"))) static void avx2_product(const struct layer *layer, int from,
    int count, const int8_t *inputs, int32_t *sums)
{
    const __m256i ones = _mm256_set1_epi16(1);
    int outputs = layer->outputs;
    for (int j = 0; j < outputs; j += LANES) {
        const int8_t *weights = layer->weights + (int64_t)from * outputs + 4 * j;
        __m256i low = _mm256_loadu_si256((const __m256i *)(sums + j));
        __m256i high = _mm256_loadu_si256((const __m256i *)(sums + j + 8));
        for (int i = 0; i < count; i += 4, weights += 4 * outputs) {
            int32_t four;
            memcpy(&four, inputs + i, 4);
            __m256i given = _mm256_set1_epi32(four);
            __m256i one = _mm256_loadu_si256((const __m256i *)weights);
            __m256i two = _mm256_loadu_si256((const __m256i *)(weights + 32));
            one = _mm256_maddubs_epi16(_mm256_abs_epi8(one), _mm256_sign_epi8(given, one));
            two = _mm256_maddubs_epi16(_mm256_abs_epi8(two), _mm256_sign_epi8(given, two));
            low = _mm256_add_epi32(low, _mm256_madd_epi16(one, ones));
            high = _mm256_add_epi32(high, _mm256_madd_epi16(two, ones));
        }
        _mm256_storeu_si256((__m256i *)(sums + j), low);
        _mm256_storeu_si256((__m256i *)(sums + j + 8), high);
    }
}

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

/* Sums of `many` times 16 outputs; `ways` inputs in turn have sums of their own, as each waits for
 * the one before. The factors without a sign are the weights, and they are kept 128 larger. */
VNNI __attribute__((always_inline)) static inline void vnni_sums(const int8_t *weights, int stride,
    int count, const int8_t *inputs, int32_t *sums, const int many, const int ways)
{
    __m512i found[12], more = _mm512_setzero_si512();
    const __m512i offset = _mm512_set1_epi8((char)128);
    for (int j = 0; j < many * ways; j++)
        found[j] = j < many ? _mm512_loadu_si512(sums + LANES * j) : _mm512_setzero_si512();
    for (int i = 0; i < count; i += 4 * ways)
        for (int way = 0; way < ways; way++, weights += stride) {
            int32_t four;
            memcpy(&four, inputs + i + 4 * way, 4);
            __m512i given = _mm512_set1_epi32(four);
            more = _mm512_dpbusd_epi32(more, offset, given);
            for (int j = 0; j < many; j++)
                found[many * way + j] = _mm512_dpbusd_epi32(
                    found[many * way + j], _mm512_loadu_si512(weights + 64 * j), given);
        }
    for (int j = 0; j < many; j++) {
        for (int way = 1; way < ways; way++)
            found[j] = _mm512_add_epi32(found[j], found[many * way + j]);
        _mm512_storeu_si512(sums + LANES * j, _mm512_sub_epi32(found[j], more));
    }
}

VNNI static void vnni_product(const struct layer *layer, int from, int count, const int8_t *inputs,
    int32_t *sums)
{
    const int8_t *weights = layer->weights + (int64_t)from * layer->outputs;
    int stride = 4 * layer->outputs;
    if (layer->outputs == WIDTH)
        vnni_sums(weights, stride, count, inputs, sums, WIDTH / LANES, 1);
    else if (layer->outputs == 2 * LANES)
        vnni_sums(weights, stride, count, inputs, sums, 2, 4);
    else
        vnni_sums(weights, stride, count, inputs, sums, 1, 4);
}
#endif

static product *const all_products[] = {
    plain_product,
#ifdef HAS_VECTORS
    avx2_product,
    vnni_product,
#endif
};
static int used_products; /* what the machine has: 0 plain C, 1 AVX2, 2 AVX-512 with VNNI */

static int best_products(void)
{
#ifdef HAS_VECTORS
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
        return 2;
    if (__builtin_cpu_supports("avx2"))
        return 1;
#endif
    return 0;
}

static inline void add_products(
    int number, int from, int count, const int8_t *inputs, int32_t *sums)
{
    all_products[used_products](&layers[number], from, count, inputs, sums);
}

/* --- Weights ---------------------------------------------------------------------------------- */

static int rounded_up(int number, int to)
{
    return (number + to - 1) / to * to;
}

/* How many inputs and outputs a layer has. */
static void layer_size(int number, int *inputs, int *outputs)
{
    int stage = number < EDGE_LAYERS ? 0 : (number - EDGE_LAYERS) % STAGES;
    int own = stage_starts[stage] - stage_starts[stage + 1];
    *inputs = number == FIRST_LAYER                      ? INPUTS_OF_FIRST
        : number < EDGE_LAYERS                           ? WIDTH
        : number < HEAD_LAYERS                           ? EDGES
        : number < SHOWN_LAYERS                          ? WIDTH
                                                         : 2 * own;
    *outputs = number == END_LAYER                         ? 2
        : number >= HEAD_LAYERS && number < SHOWN_LAYERS ? 2 * own
                                                         : WIDTH;
}

static int has_biases(int number)
{
    return number < EDGE_LAYERS || (number >= HEAD_LAYERS && number < SHOWN_LAYERS);
}

/* How many weights, biases and shifts there are. */
static void network_counts(int64_t *sizes)
{
    sizes[0] = 0;
    sizes[1] = (int64_t)64 * WIDTH;
    sizes[2] = 4 * WIDTH + 2 + 2 * 64;
    for (int number = 0; number < LAYERS; number++) {
        int inputs, outputs;
        layer_size(number, &inputs, &outputs);
        sizes[0] += (int64_t)inputs * outputs;
        sizes[1] += has_biases(number) ? outputs : 0;
    }
}

/* Take the network: all weights, of each layer in turn (outputs, inputs); biases likewise, then what
 * each end adds (64, WIDTH); shifts of the hidden layers (3, WIDTH), of the base (WIDTH), and of the
 * heads, that of ends first. Uses the machine's `best` products, or poorer ones. */
static void fill_network(
    const int8_t *weights, const int32_t *biases, const uint8_t *shifts, int most)
{
    int8_t *next = all_weights;
    int32_t *next_bias = all_biases;
    used_products = best_products() < most ? best_products() : most;
    memset(all_weights, used_products == 2 ? 128 : 0, sizeof all_weights);
    for (int number = 0; number < LAYERS; number++) {
        struct layer *layer = &layers[number];
        int inputs, outputs;
        layer_size(number, &inputs, &outputs);
        layer->inputs = rounded_up(inputs, 4);
        layer->outputs = rounded_up(outputs, LANES);
        layer->weights = next;
        layer->biases = next_bias;
        for (int j = 0; j < outputs; j++) {
            for (int i = 0; i < inputs; i++)
                next[(i / 4 * layer->outputs + j) * 4 + i % 4] ^= *weights++;
            if (has_biases(number))
                next_bias[j] = *biases++;
        }
        next += layer->inputs * layer->outputs;
        next_bias += layer->outputs;
    }
    memcpy(end_sums, biases, sizeof end_sums);
    memcpy(hidden_shifts, shifts, sizeof hidden_shifts);
    shifts += sizeof hidden_shifts;
    memcpy(base_shifts, shifts, sizeof base_shifts);
    shifts += sizeof base_shifts;
    for (int i = 0; i <= STAGES; i++) {
        int count = i ? 2 * (stage_starts[i - 1] - stage_starts[i]) : 2;
        memcpy(head_shifts[i], shifts, (size_t)count);
        shifts += count;
    }
}

/* --- Numbers that go in ----------------------------------------------------------------------- */

/* 16 times the binary logarithm of x > 0, straight between powers of 2. */
static inline int32_t logarithm(uint32_t x)
{
    int power = 0;
#if defined(__GNUC__)
    power = 31 - __builtin_clz(x);
#else
    while (x >> power > 1)
        power++;
#endif
    return 16 * power + (int32_t)(((uint64_t)x << 4 >> power) & 15);
}

/* From -127 to 127. */
static inline int8_t squeezed(int32_t x)
{
    int32_t size = logarithm((uint32_t)(x < 0 ? -x : x) + 4) - 32;
    size = size < 127 ? size : 127;
    return (int8_t)(x < 0 ? -size : size);
}

/* --- Layers ----------------------------------------------------------------------------------- */

/* What a layer of units hands on: from 0 to 127. */
CLONES static void hand_on(const int32_t *sums, const uint8_t *shifts, int8_t *units)
{
    for (int i = 0; i < WIDTH; i++) {
        int32_t x = sums[i] >> shifts[i];
        x = x < 0 ? 0 : x;
        units[i] = (int8_t)(x > 127 ? 127 : x);
    }
}

/* The first layer's sums of what all blocks of a plane have in common. */
static void plane_sums(const int8_t *inputs, int32_t *sums)
{
    int8_t given[72] = {0};
    memcpy(given, inputs, PLANE_INPUTS);
    memcpy(sums, layers[FIRST_LAYER].biases, WIDTH * sizeof *sums);
    add_products(FIRST_LAYER, AROUND_INPUTS + EARLIER_INPUTS, 72, given, sums);
}

/* What the network knows of a block. */
struct opinion {
    int32_t sums[WIDTH];
    int32_t end[2]; /* where it ends, in quarters; how sure that is, 16 a doubling */
};

/* Of what is around a block, and, `has_earlier`, of components before. */
static void see(struct opinion *opinion, const int32_t *plane, const int8_t *around, int has_earlier,
    const int8_t *earlier)
{
    int8_t first[WIDTH], second[WIDTH];
    int32_t sums[WIDTH], end[LANES];
    memcpy(sums, plane, sizeof sums);
    add_products(FIRST_LAYER, 0, AROUND_INPUTS, around, sums);
    if (has_earlier)
        add_products(FIRST_LAYER, AROUND_INPUTS, EARLIER_INPUTS, earlier, sums);
    hand_on(sums, hidden_shifts[0], first);
    memcpy(sums, layers[SECOND_LAYER].biases, sizeof sums);
    add_products(SECOND_LAYER, 0, WIDTH, first, sums);
    hand_on(sums, hidden_shifts[1], second);
    memcpy(opinion->sums, layers[BASE_LAYER].biases, sizeof opinion->sums);
    add_products(BASE_LAYER, 0, WIDTH, second, opinion->sums);
    for (int i = 0; i < WIDTH; i++)
        opinion->sums[i] >>= base_shifts[i];
    memcpy(end, layers[END_LAYER].biases, sizeof end);
    add_products(END_LAYER, 0, WIDTH, second, end);
    for (int i = 0; i < 2; i++)
        opinion->end[i] = end[i] >> head_shifts[0][i];
}

static void learn_end(struct opinion *opinion, int end)
{
    for (int i = 0; i < WIDTH; i++)
        opinion->sums[i] += end_sums[end][i];
}

/* Of each coefficient of a stage two numbers: a mean, in units of 1/64 of the scale, and the scale,
 * 16 a doubling, WHOLE for one. */
static void say(const struct opinion *opinion, int stage, const int8_t *edges, int32_t *said)
{
    int32_t sums[WIDTH];
    int8_t units[WIDTH];
    const struct layer *head = &layers[HEAD_LAYERS + stage];
    memcpy(sums, opinion->sums, sizeof sums);
    add_products(EDGE_LAYERS + stage, 0, EDGES, edges, sums);
    hand_on(sums, hidden_shifts[2], units);
    memcpy(said, head->biases, (size_t)head->outputs * sizeof *said);
    add_products(HEAD_LAYERS + stage, 0, WIDTH, units, said);
    for (int i = 0; i < 2 * (stage_starts[stage] - stage_starts[stage + 1]); i++)
        said[i] >>= head_shifts[1 + stage][i];
}

/* Let it know the coefficients of a stage: `values` of the block. */
static void show(struct opinion *opinion, int stage, const int8_t *values)
{
    int8_t own[2 * 64] = {0};
    int start = stage_starts[stage + 1], count = stage_starts[stage] - start;
    for (int i = 0; i < count; i++) {
        int8_t value = values[start + i];
        own[i] = value;
        own[count + i] = value < 0 ? -value : value;
    }
    add_products(SHOWN_LAYERS + stage, 0, rounded_up(2 * count, 4), own, opinion->sums);
}

#endif
