/* The compiled backend of frozen networks: what a network and its evaluation look like in memory.
 *
 * docs/format.md specifies what is computed ("The evaluation"); here is in which order.
 *
 * Every product is of bytes from 0 to 255 with signed bytes: that is what processors multiply
 * fastest. Activations are 0 to 127 as they are; signed inputs (pixels, companded contrasts) are
 * stored plus 128, and the bias of the layer that reads them makes up for it. */

#ifndef PIXELZIP_ENGINE_H
#define PIXELZIP_ENGINE_H

#include <stddef.h>
#include <stdint.h>

enum {
    MOST_BLOCKS = 24,
    MOST_COLOURS = 3,
    MOST_NEAR = 24,
    TAPS = 5,    /* of a masked convolution */
    ROWS = 32,   /* a product makes so many rows */
    WIDTH = 32,  /* and columns at once */
    CHUNK = 96,  /* pixels that go through the layers together: their activations fit a cache */
    MOST_DEPTH = 64, /* inputs are read in groups of at most this, beyond the last one, too */
    LIMIT = 1 << 26,
    ZERO = 128,  /* how a zero is stored */
    LAG = 2,
};

/* A matrix product and what rescales its sums. Columns come in groups of WIDTH. */
struct layer {
    const void *weights;  /* laid out as the instruction set wants them, see product.h */
    const int32_t *bias;  /* (outputs), with what makes up for stored zeros */
    const float *scale;   /* (outputs), 0 for those that fill up */
    int32_t inputs;       /* of one tap, filled up with weights of zero as the backend wants it */
    int32_t pitch;        /* from one row of inputs to the next, in bytes */
    int32_t outputs;      /* a multiple of WIDTH */
};

struct network {
    int32_t colours, given, channels, head, components, near; /* channels, head: filled up */
    int32_t blocks, masked[MOST_BLOCKS];
    int32_t neighbours[MOST_NEAR][2];
    struct layer first; /* columns: 16 high bytes' sums, the same 16 low bytes' sums, ... */
    struct layer stem, a[MOST_BLOCKS], b[MOST_BLOCKS], trunk, heads[MOST_COLOURS];
    const float *input_scale[MOST_BLOCKS], *trunk_scale, *head_scale[MOST_COLOURS];
    const uint8_t *table; /* of contrasts, from -reach to reach, entries plus 128 */
    int32_t reach;
    const int16_t *bins;
    int32_t last_bin, code_rows;
    const int32_t *code; /* (3, code_rows, head) */
};

/* An evaluation of one tile, in one of two orders.
 *
 * Front by front, when pixels get known on the way: those of front t lie in column t - LAG * row,
 * row by row. Row by row, when all are known from the start; then each row has one pixel more,
 * whose activations are made zero, so that taps beyond the tile's sides need no special case.
 *
 * In both orders neighbouring pixels' activations lie side by side in a masked block's store, and
 * so do those at any one of the taps. */
struct evaluation {
    const struct network *network;
    const struct backend *backend;
    int32_t height, width, channels;
    int32_t by_rows;
    int32_t most; /* pixels at once: of a front, or CHUNK */
    int32_t n;    /* pixels at hand, in these rows and columns */
    int32_t *row, *column;
    int32_t first; /* by rows: the first one that is asked for */
    int64_t next; /* the front, or the pixel by rows, after those at hand */
    int64_t kept; /* by rows: the pixel whose activations lie first in the stores */
    int64_t entries; /* of each store */

    uint8_t *pixels; /* whole tile, with zeros around it: entries of colours + 1 bytes */
    ptrdiff_t pitch, given_pitch; /* in bytes */
    uint8_t *given;  /* entries of 7 bytes, likewise */
    uint8_t *stores[MOST_BLOCKS];

    /* Of CHUNK pixels, from one layer to the next. */
    uint8_t *window, *x, *y;
    int32_t *stream, *values;
    /* Of all pixels at hand. */
    int32_t *hidden, *predicted, *contrasts, *centre, *residual;
    struct component *components;
    struct span *spans;
    uint8_t *likely; /* see mixture() */
};

/* The same functions for each instruction set. */
struct backend {
    const char *name;
    int32_t group; /* inputs that lie side by side in the weights: 4 of int8, or 2 or 1 of int16 */
    int32_t depth; /* inputs are filled up to multiples of this */
    int32_t offset; /* what products take inputs for less than they are; biases make up for it */
    void (*visit)(struct evaluation *);
    void (*head)(struct evaluation *, int colour, int32_t *parameters);
    void (*product)(const struct layer *, int n, const uint8_t *x, int32_t *sums);
    void (*enter)(void);
    void (*leave)(void);
};

#endif
