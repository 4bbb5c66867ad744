/* The layers, compiled once for each instruction set. See engine.h and product.h. */

#include "vector.h"

#define EACH_LANE(size) for (int c = 0; c < (size); c += LANES)

INLINE INTS BACKEND(rescaled)(INTS total, const float *scale)
{
    return BACKEND(nearest)(BACKEND(times)(total, scale), (float)-LIMIT, (float)LIMIT);
}

INLINE INTS BACKEND(activated)(INTS total, const float *scale)
{
    return BACKEND(nearest)(BACKEND(times)(total, scale), 0.0f, 127.0f);
}

/* --- What becomes of a product's sums, WIDTH columns of up to ROWS rows at a time -------------- */

typedef const int32_t (*BACKEND(Sums))[WIDTH];
#define SUMS BACKEND(Sums) restrict

/* The first layer's, of WIDTH / 2 columns: their high bytes' sums, then their low bytes'. */
INLINE INTS BACKEND(joined)(const int32_t *sums, int c)
{
    INTS high = BACKEND(load)(sums + c), low = BACKEND(load)(sums + WIDTH / 2 + c);
    return BACKEND(plus)(BACKEND(times_256)(high), low);
}

static NOINLINE void BACKEND(compand)(const float *restrict scale, const uint8_t *restrict table,
    int32_t reach, int n, SUMS sums, uint8_t *restrict out, ptrdiff_t pitch)
{
    table += reach;
    for (int i = 0; i < n; i++, out += pitch) {
        int32_t at[WIDTH / 2];
        EACH_LANE(WIDTH / 2)
        {
            FLOATS x = BACKEND(times)(BACKEND(joined)(sums[i], c), scale + c);
            BACKEND(store)(at + c, BACKEND(nearest)(x, (float)-reach, (float)reach));
        }
        for (int c = 0; c < WIDTH / 2; c++)
            out[c] = table[at[c]];
    }
}

static NOINLINE void BACKEND(predict)(int colours, int n, SUMS sums, int32_t *restrict predicted)
{
    for (int i = 0; i < n; i++, predicted += colours) {
        int32_t total[WIDTH / 2];
        EACH_LANE(WIDTH / 2)
        BACKEND(store)(total + c, BACKEND(joined)(sums[i], c));
        for (int c = 0; c < colours; c++)
            predicted[c] = (total[c] + 16) >> 5;
    }
}

static NOINLINE void BACKEND(activate)(
    const float *restrict scale, int n, SUMS sums, uint8_t *restrict out, ptrdiff_t pitch)
{
    for (int i = 0; i < n; i++, out += pitch)
        EACH_LANE(WIDTH)
        BACKEND(store_bytes)(out + c, BACKEND(activated)(BACKEND(load)(sums[i] + c), scale + c));
}

static NOINLINE void BACKEND(rescale)(
    const float *restrict scale, int n, SUMS sums, int32_t *restrict out, ptrdiff_t pitch)
{
    for (int i = 0; i < n; i++, out += pitch)
        EACH_LANE(WIDTH)
        BACKEND(store)(out + c, BACKEND(rescaled)(BACKEND(load)(sums[i] + c), scale + c));
}

/* Add to the residual stream, and activate it for what comes next. */
static NOINLINE void BACKEND(add)(const float *restrict scale, const float *restrict next, int n,
    SUMS sums, int32_t *restrict stream, uint8_t *restrict out, ptrdiff_t pitch)
{
    for (int i = 0; i < n; i++, stream += pitch, out += pitch)
        EACH_LANE(WIDTH)
        {
            INTS more = BACKEND(rescaled)(BACKEND(load)(sums[i] + c), scale + c);
            INTS total = BACKEND(plus)(BACKEND(load)(stream + c), more);
            BACKEND(store)(stream + c, total);
            BACKEND(store_bytes)(out + c, BACKEND(activated)(total, next + c));
        }
}

/* Hidden units with what earlier residuals add to them, for the heads. */
static NOINLINE void BACKEND(spell)(const int32_t *restrict hidden, const int32_t *restrict one,
    const int32_t *restrict other, const float *restrict scale, int size, uint8_t *restrict out)
{
    EACH_LANE(size)
    {
        INTS both = BACKEND(plus)(BACKEND(load)(one + c), BACKEND(load)(other + c));
        INTS total = BACKEND(plus)(BACKEND(load)(hidden + c), both);
        BACKEND(store_bytes)(out + c, BACKEND(activated)(total, scale + c));
    }
}

static NOINLINE int64_t BACKEND(weighed)(
    const int32_t *restrict weights, const int32_t *restrict contrasts, int size)
{
    int64_t total = 0;
    for (int c = 0; c < size; c++)
        total += (int64_t)weights[c] * contrasts[c];
    return total;
}

/* --- The trunk ------------------------------------------------------------------------------- */

#define FOR_BLOCKS(layer, n)                                                                       \
    for (int block = 0; block < (layer)->outputs / WIDTH; block++)                                 \
        for (int i = 0, some; some = (n) - i < ROWS ? (n) - i : ROWS, i < (n); i += ROWS)

static void BACKEND(first)(struct evaluation *ev, int at, int n)
{
    const struct network *net = ev->network;
    int32_t sums[ROWS][WIDTH];
    FOR_BLOCKS(&net->first, n)
    {
        const uint8_t *x[1] = {ev->window + i * net->first.pitch};
        BACKEND(product)(&net->first, 1, x, net->first.pitch, some, block, sums);
        if (block < net->channels / 16)
            BACKEND(compand)
            (net->first.scale + 16 * block, net->table, net->reach, some, sums,
                ev->y + i * net->channels + 16 * block, net->channels);
        else
            BACKEND(predict)
            (net->colours, some, sums, ev->predicted + (at + i) * net->colours);
    }
}

/* A layer whose sums are activated at once. The inputs of n pixels lie at each of the taps. */
static void BACKEND(dense)(
    const struct layer *layer, int taps, const uint8_t *const *x, int n, uint8_t *out, int pitch)
{
    int32_t sums[ROWS][WIDTH];
    FOR_BLOCKS(layer, n)
    {
        const uint8_t *some_x[TAPS];
        for (int tap = 0; tap < taps; tap++)
            some_x[tap] = x[tap] + i * layer->pitch;
        BACKEND(product)(layer, taps, some_x, layer->pitch, some, block, sums);
        BACKEND(activate)
        (layer->scale + WIDTH * block, some, sums, out + i * pitch + WIDTH * block, pitch);
    }
}

/* A layer that adds to the residual stream. What comes next lies in `out`, as large as `x`. */
static void BACKEND(residual)(const struct layer *layer, const uint8_t *x, const float *next, int n,
    int32_t *stream, uint8_t *out)
{
    int pitch = layer->outputs;
    int32_t sums[ROWS][WIDTH];
    FOR_BLOCKS(layer, n)
    {
        const uint8_t *some_x[1] = {x + i * layer->pitch};
        int column = WIDTH * block;
        BACKEND(product)(layer, 1, some_x, layer->pitch, some, block, sums);
        BACKEND(add)
        (layer->scale + column, next + column, some, sums, stream + i * pitch + column,
            out + i * pitch + column, pitch);
    }
}

static void BACKEND(linear)(const struct layer *layer, const uint8_t *x, int n, int32_t *out)
{
    int32_t sums[ROWS][WIDTH];
    FOR_BLOCKS(layer, n)
    {
        const uint8_t *some_x[1] = {x + i * layer->pitch};
        BACKEND(product)(layer, 1, some_x, layer->pitch, some, block, sums);
        BACKEND(rescale)
        (layer->scale + WIDTH * block, some, sums, out + i * layer->outputs + WIDTH * block,
            layer->outputs);
    }
}

/* What the first layer sees of n pixels, from number `at` of those at hand on. */
static void BACKEND(look)(struct evaluation *ev, int at, int n)
{
    const struct network *net = ev->network;
    int entry = net->colours + 1, pitch = net->first.pitch;
    for (int i = 0; i < n; i++) {
        const uint8_t *p = pixel(ev, ev->row[at + i], ev->column[at + i]);
        uint8_t *out = ev->window + i * pitch;
        if (entry == 4)
            out = copied_window(out, p, ev->pitch, 4);
        else
            out = copied_window(out, p, ev->pitch, 2);
        if (net->given) {
            const uint8_t *g = given(ev, ev->row[at + i], ev->column[at + i]);
            for (int row = -2; row <= 2; row++, out += 5 * GIVEN)
                memcpy(out, g + row * ev->given_pitch - 2 * GIVEN, 5 * GIVEN);
        }
    }
}

/* The neighbours' colours less the prediction, and what is given around the pixel less what is
 * given at it; in 1/256 of a pixel value. */
static void BACKEND(contrast)(struct evaluation *ev)
{
    const struct network *net = ev->network;
    int size = contrasts(net);
    ptrdiff_t near[MOST_NEAR];
    for (int j = 0; j < net->near; j++)
        near[j] = net->neighbours[j][0] * ev->pitch
                  + net->neighbours[j][1] * (net->colours + 1);
    for (int i = 0; i < ev->n; i++) {
        const uint8_t *p = pixel(ev, ev->row[i], ev->column[i]);
        const int32_t *predicted = ev->predicted + i * net->colours;
        int32_t *out = ev->contrasts + (size_t)i * size;
        for (int j = 0; j < net->near; j++)
            for (int c = 0; c < net->colours; c++)
                *out++ = 256 * ((int32_t)p[near[j] + c] - ZERO) - predicted[c];
        if (!net->given)
            continue;
        const uint8_t *g = given(ev, ev->row[i], ev->column[i]);
        for (int row = -1; row <= 1; row++)
            for (int column = -1; column <= 1; column++) {
                const uint8_t *there = g + row * ev->given_pitch + column * GIVEN;
                if (there == g)
                    continue;
                int32_t luma = 0;
                for (int k = 0; k < 4; k++)
                    luma += there[k] - g[k];
                *out++ = 64 * luma;
                *out++ = 256 * (there[5] - g[5]);
            }
    }
}

/* All layers but the heads, for the pixels at hand. */
static void BACKEND(visit)(struct evaluation *ev)
{
    const struct network *net = ev->network;
    for (int at = 0; at < ev->n; at += CHUNK) {
        int n = ev->n - at < CHUNK ? ev->n - at : CHUNK;
        const uint8_t *taps[MOST_BLOCKS + 1][TAPS];
        uint8_t *into[MOST_BLOCKS + 1]; /* the inputs of each block, and of the trunk's end */
        const float *scale[MOST_BLOCKS + 1];
        for (int b = 0; b <= net->blocks; b++) {
            into[b] = ev->x;
            if (b < net->blocks && net->masked[b])
                into[b] = places(ev, b, at, taps[b]);
            else
                taps[b][0] = ev->x;
            scale[b] = b < net->blocks ? net->input_scale[b] : net->trunk_scale;
        }
        BACKEND(look)(ev, at, n);
        BACKEND(first)(ev, at, n);
        memset(ev->stream, 0, (size_t)n * net->channels * sizeof *ev->stream);
        BACKEND(residual)(&net->stem, ev->y, scale[0], n, ev->stream, into[0]);
        for (int b = 0; b < net->blocks; b++) {
            if (net->masked[b])
                clear_beyond(ev, b, at, n);
            BACKEND(dense)
            (&net->a[b], net->masked[b] ? TAPS : 1, taps[b], n, ev->y, net->channels);
            BACKEND(residual)(&net->b[b], ev->y, scale[b + 1], n, ev->stream, into[b + 1]);
        }
        BACKEND(linear)(&net->trunk, ev->x, n, ev->hidden + (size_t)at * net->trunk.outputs);
    }
    BACKEND(contrast)(ev);
}

/* --- The heads ------------------------------------------------------------------------------- */

/* (n, 3, components) parameters of a colour's mixtures, given the earlier colours' residuals. */
static void BACKEND(head)(struct evaluation *ev, int colour, int32_t *parameters)
{
    const struct network *net = ev->network;
    const struct layer *layer = &net->heads[colour];
    int k = net->components, size = contrasts(net), head = net->head;
    for (int at = 0; at < ev->n; at += CHUNK) {
        int n = ev->n - at < CHUNK ? ev->n - at : CHUNK;
        for (int i = 0; i < n; i++) {
            const int32_t *residual = ev->residual + (at + i) * net->colours;
            const int32_t *hidden = ev->hidden + (size_t)(at + i) * net->trunk.outputs;
            const int32_t *code[2] = {no_code, no_code};
            for (int e = 0; e < colour; e++)
                code[e] = coded(net, colour + e - 1, residual[e]);
            hidden += colour * head;
            BACKEND(spell)
            (hidden, code[0], code[1], net->head_scale[colour], head, ev->x + i * head);
        }
        BACKEND(linear)(layer, ev->x, n, ev->values);
        for (int i = 0; i < n; i++) {
            const int32_t *value = ev->values + i * layer->outputs;
            const int32_t *contrast = ev->contrasts + (size_t)(at + i) * size;
            const int32_t *residual = ev->residual + (at + i) * net->colours;
            int64_t total = BACKEND(weighed)(value + 3 * k, contrast, size);
            for (int e = 0; e < colour; e++)
                total += (int64_t)value[3 * k + size + e] * residual[e];
            int64_t centre = ev->predicted[(at + i) * net->colours + colour] + ZERO * 256
                             + ((total + 2048) >> 12);
            centre = clamped(centre, -LIMIT, LIMIT);
            ev->centre[at + i] = (int32_t)centre;
            int32_t *out = parameters + (size_t)(at + i) * 3 * k;
            for (int c = 0; c < k; c++) {
                out[c] = value[c];
                out[k + c] = value[k + c] + (int32_t)centre;
                out[2 * k + c] = value[2 * k + c];
            }
        }
    }
}

/* The sums of a whole product, to prove that it is exact. */
static void BACKEND(sums)(const struct layer *layer, int n, const uint8_t *x, int32_t *out)
{
    int32_t sums[ROWS][WIDTH];
    FOR_BLOCKS(layer, n)
    {
        const uint8_t *some_x[1] = {x + i * layer->pitch};
        BACKEND(product)(layer, 1, some_x, layer->pitch, some, block, sums);
        for (int r = 0; r < some; r++)
            memcpy(out + (i + r) * layer->outputs + WIDTH * block, sums[r], sizeof sums[r]);
    }
}

static const struct backend BACKEND(backend) = {
    BACKEND_NAME, GROUP, GROUP_DEPTH, OFFSET, BACKEND(visit), BACKEND(head), BACKEND(sums), BACKEND(enter),
    BACKEND(leave),
};

#undef SUMS
#undef FOR_BLOCKS
#undef EACH_LANE
#undef LANES
#undef INTS
#undef FLOATS
