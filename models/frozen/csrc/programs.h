/* Programs of integers, as pixelzip.models.programs.native lays them out for programs.c.
 *
 * docs/format.md ("Frozen programs") says what the nodes do, pixelzip.models.programs.plan which of
 * them is evaluated when and what is kept of its map. Here is what runs. */

#ifndef PIXELZIP_PROGRAMS_H
#define PIXELZIP_PROGRAMS_H

#include <stdint.h>

enum { BLOCK = 16 }; /* outputs of a matrix come in multiples of this */

enum op { INPUT, GIVEN, LINEAR, ADD, ACTIVATE, GATE, LSTM, SLICE, CAT };
enum activation { IDENTITY, RELU, ELU, CONCAT_ELU, NEGATIVE_ELU /* half of the latter */ };
enum gate { GATE_TANH, GATE_LINEAR };
enum lstm { ROW, LEFT, RIGHT_TO_LEFT };
enum output { SOFTMAX, BINARY, MIXTURE, MAP };

/* Which of a map's channels: runs of them, one after the other. */
struct run {
    int32_t start, count;
};
struct some {
    const struct run *runs;
    int32_t count, channels; /* of runs; of channels in all of them */
};

/* A matrix of 16-bit integers, and how its sums become wide: (sum + bias) * scale.
 * weights are (outputs / BLOCK, pairs, BLOCK, 2): pairs of inputs side by side. */
struct matrix {
    const int16_t *weights;
    const double *bias, *scale; /* bias: (classes or 1, outputs) */
    int32_t pairs, outputs, classes;
};

struct node {
    int32_t op, kind, narrow, channels, inputs, taps, stride, level, blank, start;
    int32_t set;    /* the positions at which it is evaluated, while stepping */
    int32_t stored; /* whether its map is read elsewhere than where it is being made */
    int32_t buffer; /* where its channels are while they are being made */
    const int32_t *input;
    const int32_t *tap;           /* (taps, 2): of a linear node or an LSTM, or one for each input */
    const int32_t *here;          /* of each input: whether it is read as it is being made */
    const struct some *columns;   /* for each group: its channels */
    const struct matrix *matrices; /* for each group */
    const double *scale;          /* of an activation */
    const int16_t *hidden;        /* of an LSTM: its states outside, */
    const int32_t *cell;          /* and its cells */
};

/* Positions at which nodes are evaluated together: so many columns ahead of the pixel, on a level. */
struct lead {
    int32_t level, columns;
};

struct program {
    int32_t colours, output, components, coupled;
    int32_t lag; /* 0: the width */
    int32_t beyond, bits, state_unit;
    int32_t groups;       /* 1, or colours */
    int32_t nodes, leads, buffers;
    int32_t kept_rows, kept_columns;
    const struct node *node;
    const struct lead *lead;
};

#endif
