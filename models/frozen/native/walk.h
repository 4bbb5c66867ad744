/* The layers, compiled once for each instruction set. See engine.h and product.h. */

static inline float BACKEND(within)(float x, float lowest, float highest)
{
    x = x < lowest ? lowest : x;
    return x > highest ? highest : x;
}

/* The nearest integer to a float, ties to even, as the number that it is. */
static inline float BACKEND(rounded)(float x)
{
#if defined(__SSE2__) && !defined(__SSE4_1__)
    /* What rintf is before SSE 4.1, for compilers that would call a library: a float of at least
     * 2^23 is an integer, and adding that to a smaller one rounds it. */
    float size = x < 0 ? -x : x, whole = (size + 8388608.0f) - 8388608.0f;
    whole = size < 8388608.0f ? whole : size;
    return x < 0 ? -whole : whole;
#else
    return __builtin_rintf(x);
#endif
}

static inline int32_t BACKEND(rescaled)(int32_t total, float scale)
{
    float x = BACKEND(within)((float)total * scale, (float)-LIMIT, (float)LIMIT);
    return (int32_t)BACKEND(rounded)(x);
}

static inline uint8_t BACKEND(activated)(int32_t total, float scale)
{
    float x = BACKEND(within)((float)total * scale, 0.0f, 127.0f);
    return (uint8_t)(int32_t)BACKEND(rounded)(x);
}

/* --- What becomes of a product's sums, WIDTH columns of up to ROWS rows at a time -------------- */

typedef const int32_t (*BACKEND(Sums))[WIDTH];
#define Sums BACKEND(Sums) restrict

/* The first layer: high and low bytes' sums together, looked up in the companding table. */
static void BACKEND(compand)(const struct network *net, int block, int n, Sums sums, uint8_t *restrict out)
{
    const float *scale = net->first.scale + 16 * block;
    float reach = (float)net->reach;
    for (int i = 0; i < n; i++) {
        int32_t at[16];
        for (int c = 0; c < 16; c++) {
            int32_t total = (int32_t)(256u * (uint32_t)sums[i][c] + (uint32_t)sums[i][16 + c]);
            float x = BACKEND(within)((float)total * scale[c], -reach, reach);
            at[c] = (int32_t)BACKEND(rounded)(x) + net->reach;
        }
        for (int c = 0; c < 16; c++)
            out[i * net->channels + 16 * block + c] = net->table[at[c]];
    }
}

static void BACKEND(predict)(const struct network *net, int n, Sums sums, int32_t *restrict predicted)
{
    for (int i = 0; i < n; i++)
        for (int c = 0; c < net->colours; c++) {
            int32_t total = (int32_t)(256u * (uint32_t)sums[i][c] + (uint32_t)sums[i][16 + c]);
            predicted[i * net->colours + c] = (total + 16) >> 5;
        }
}

static void BACKEND(activate)(
    const float *restrict scale, int n, Sums sums, uint8_t *restrict out, int pitch)
{
    for (int i = 0; i < n; i++)
        for (int c = 0; c < WIDTH; c++)
            out[i * pitch + c] = BACKEND(activated)(sums[i][c], scale[c]);
}

static void BACKEND(rescale)(
    const float *restrict scale, int n, Sums sums, int32_t *restrict out, int pitch)
{
    for (int i = 0; i < n; i++)
        for (int c = 0; c < WIDTH; c++)
            out[i * pitch + c] = BACKEND(rescaled)(sums[i][c], scale[c]);
}

/* Add to the residual stream (or begin it), and activate it for what comes next. */
static void BACKEND(add)(const float *restrict scale, int begins, const float *restrict next,
    int n, Sums sums, int32_t *restrict stream, uint8_t *restrict out, int pitch)
{
    for (int i = 0; i < n; i++)
        for (int c = 0; c < WIDTH; c++) {
            int32_t before = begins ? 0 : stream[i * pitch + c];
            int32_t total = before + BACKEND(rescaled)(sums[i][c], scale[c]);
            stream[i * pitch + c] = total;
            out[i * pitch + c] = BACKEND(activated)(total, next[c]);
        }
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
        const uint8_t *x[1] = {ev->window + i * net->first.inputs};
        BACKEND(product)(&net->first, 1, x, net->first.inputs, some, block, sums);
        if (block < net->channels / 16)
            BACKEND(compand)(net, block, some, sums, ev->y + i * net->channels);
        else
            BACKEND(predict)(net, some, sums, ev->predicted + (at + i) * net->colours);
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
            some_x[tap] = x[tap] + i * layer->inputs;
        BACKEND(product)(layer, taps, some_x, layer->inputs, some, block, sums);
        BACKEND(activate)
        (layer->scale + WIDTH * block, some, sums, out + i * pitch + WIDTH * block, pitch);
    }
}

/* A layer that adds to the residual stream. What comes next lies in `out`, as large as `x`. */
static void BACKEND(residual)(const struct layer *layer, const uint8_t *x, int begins,
    const float *next, int n, int32_t *stream, uint8_t *out)
{
    int pitch = layer->outputs;
    int32_t sums[ROWS][WIDTH];
    FOR_BLOCKS(layer, n)
    {
        const uint8_t *some_x[1] = {x + i * layer->inputs};
        int column = WIDTH * block;
        BACKEND(product)(layer, 1, some_x, layer->inputs, some, block, sums);
        BACKEND(add)
        (layer->scale + column, begins, next + column, some, sums, stream + i * pitch + column,
            out + i * pitch + column, pitch);
    }
}

static void BACKEND(linear)(const struct layer *layer, const uint8_t *x, int n, int32_t *out)
{
    int32_t sums[ROWS][WIDTH];
    FOR_BLOCKS(layer, n)
    {
        const uint8_t *some_x[1] = {x + i * layer->inputs};
        BACKEND(product)(layer, 1, some_x, layer->inputs, some, block, sums);
        BACKEND(rescale)
        (layer->scale + WIDTH * block, some, sums, out + i * layer->outputs + WIDTH * block,
            layer->outputs);
    }
}

/* What the first layer sees of n pixels, from number `at` of those at hand on. */
static void BACKEND(look)(struct evaluation *ev, int at, int n)
{
    const struct network *net = ev->network;
    int entry = net->colours + 1, pitch = net->first.inputs;
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
        BACKEND(residual)(&net->stem, ev->y, 1, scale[0], n, ev->stream, into[0]);
        for (int b = 0; b < net->blocks; b++) {
            if (net->masked[b])
                clear_beyond(ev, b, at, n);
            BACKEND(dense)
            (&net->a[b], net->masked[b] ? TAPS : 1, taps[b], n, ev->y, net->channels);
            BACKEND(residual)(&net->b[b], ev->y, 0, scale[b + 1], n, ev->stream, into[b + 1]);
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
            uint8_t *out = ev->x + i * head;
            for (int c = 0; c < head; c++)
                out[c] = BACKEND(activated)(
                    hidden[c] + code[0][c] + code[1][c], net->head_scale[colour][c]);
        }
        BACKEND(linear)(layer, ev->x, n, ev->values);
        for (int i = 0; i < n; i++) {
            const int32_t *value = ev->values + i * layer->outputs;
            const int32_t *contrast = ev->contrasts + (size_t)(at + i) * size;
            const int32_t *residual = ev->residual + (at + i) * net->colours;
            int64_t total = 0;
            for (int c = 0; c < size; c++)
                total += (int64_t)value[3 * k + c] * contrast[c];
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
        const uint8_t *some_x[1] = {x + i * layer->inputs};
        BACKEND(product)(layer, 1, some_x, layer->inputs, some, block, sums);
        for (int r = 0; r < some; r++)
            memcpy(out + (i + r) * layer->outputs + WIDTH * block, sums[r], sizeof sums[r]);
    }
}

static const struct backend BACKEND(backend) = {
    BACKEND_NAME, GROUP, BACKEND(visit), BACKEND(head), BACKEND(sums), BACKEND(enter),
    BACKEND(leave),
};

#undef Sums
#undef FOR_BLOCKS
