/* Sets of colours: docs/format.md, "Sets of colours"; pixelzip.codec.colour_bits explains. */

#include "bits.h"
#include "export.h"

enum {
    BLOCK = 8,
    BLOCKS = 256 / BLOCK,
    AROUND_BLOCKS = BLOCKS + 2,
    REACH = 6,              /* as far as contexts reach */
    SIDE = 256 + 2 * REACH, /* of the cube with zeros around it */
    SET_LIMIT = 1023,       /* of the contexts */
    MIXED = 4,
    MIXERS = 32,
};

/* How far back in the cube the colours are that are so much less red, green, blue. */
#define BEFORE(r, g, b) (((r)*SIDE + (g)) * SIDE + (b))
#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static const int near[] = {BEFORE(0, 0, 1), BEFORE(0, 1, 0), BEFORE(1, 0, 0), BEFORE(0, 0, 2),
    BEFORE(0, 1, 1), BEFORE(1, 1, 1), BEFORE(1, 1, 0), BEFORE(1, 0, 1), BEFORE(0, 1, -1),
    BEFORE(1, 0, -1)};
static const int in_line[] = {BEFORE(0, 0, 1), BEFORE(0, 0, 2), BEFORE(0, 0, 3), BEFORE(0, 0, 4),
    BEFORE(0, 0, 5), BEFORE(0, 0, 6), BEFORE(0, 1, 0), BEFORE(1, 0, 0)};
static const int diagonal[] = {BEFORE(1, 1, 1), BEFORE(2, 2, 2), BEFORE(1, 1, 0), BEFORE(1, 0, 0),
    BEFORE(1, 1, -1), BEFORE(1, 1, 2), BEFORE(1, 0, -1), BEFORE(1, -1, -1), BEFORE(1, -1, 0),
    BEFORE(1, 0, 1)};
static const int around[] = {BEFORE(0, 0, 1), BEFORE(0, 0, 2), BEFORE(0, 1, 0), BEFORE(0, 2, 0),
    BEFORE(1, 0, 0), BEFORE(2, 0, 0), BEFORE(0, 1, 2), BEFORE(0, 1, -2), BEFORE(0, 2, 1),
    BEFORE(0, 2, -1), BEFORE(1, 2, 0), BEFORE(1, -2, 0), BEFORE(1, 0, -2), BEFORE(1, 0, 2),
    BEFORE(2, 2, 2), BEFORE(1, 1, 1), BEFORE(1, -1, -1), BEFORE(1, 1, -1), BEFORE(1, -1, 1),
    BEFORE(2, -1, 0)};
static const int blocks_before[][3] = {{0, 0, -1}, {0, -1, 0}, {-1, 0, 0}, {-1, -1, -1},
    {-1, -1, 0}, {-1, 0, 1}, {0, -1, 1}, {-1, 1, 0}, {-1, 1, 1}};

enum {
    FIRST_IN_LINE = 1 << COUNT(near),
    FIRST_DIAGONAL = FIRST_IN_LINE + (1 << COUNT(in_line)),
    FIRST_AROUND = FIRST_DIAGONAL + (1 << COUNT(diagonal)),
    CONTEXTS = FIRST_AROUND + COUNT(around) + 1,
};

struct set {
    struct bits bits;
    struct context contexts[CONTEXTS], blocks[1 << COUNT(blocks_before)];
    int64_t weights[MIXERS][MIXED];
    uint8_t filled[AROUND_BLOCKS][AROUND_BLOCKS][AROUND_BLOCKS];
    uint8_t cube[SIDE * SIDE * SIDE];
};

/* Which of some colours are there, as a number. */
static int64_t pattern(const uint8_t *at, const int *before, int count)
{
    int64_t found = 0;
    for (int i = 0; i < count; i++)
        found = 2 * found + at[-before[i]];
    return found;
}

/* How many of them are there. */
static int number(const uint8_t *at, const int *before, int count)
{
    int found = 0;
    for (int i = 0; i < count; i++)
        found += at[-before[i]];
    return found;
}

/* Whether a block has any colours. */
static int has_any(const uint16_t *blue, int red, int green, int first)
{
    int found = 0;
    for (int r = red; r < red + BLOCK; r++)
        for (int g = green; g < green + BLOCK; g++)
            found |= blue[16 * (256 * r + g) + (first >> 4)] >> (first & 15) & 255;
    return found != 0;
}

/* Code the colours of a block that has some; returns how many there are. */
static int code_block(struct set *set, uint16_t *blue, int red, int green, int first)
{
    int found = 0;
    for (int r = red; r < red + BLOCK; r++)
        for (int g = green; g < green + BLOCK; g++) {
            uint16_t *word = blue + 16 * (256 * r + g) + (first >> 4);
            uint8_t *at = set->cube + BEFORE(r + REACH, g + REACH, first + REACH);
            for (int b = first & 15; b < (first & 15) + BLOCK; b++, at++) {
                int crowd = number(at, around, COUNT(around));
                int64_t chosen[MIXED] = {pattern(at, near, COUNT(near)),
                    FIRST_IN_LINE + pattern(at, in_line, COUNT(in_line)),
                    FIRST_DIAGONAL + pattern(at, diagonal, COUNT(diagonal)),
                    FIRST_AROUND + crowd};
                int mixer = crowd * 8 / 20;
                mixer = 4 * (mixer < 7 ? mixer : 7) + 2 * at[-near[0]] + at[-near[1]];
                int bit = code_mixed(&set->bits, set->contexts, chosen, MIXED, SET_LIMIT,
                    set->weights[mixer], *word >> b & 1);
                *word |= (uint16_t)(bit << b);
                *at = (uint8_t)bit;
                found += bit;
            }
        }
    return found;
}

/* Encode the set blue (65536, 16), or decode it into zeros. Returns 1, 0 if it is impossible or has
 * more than `most` colours, which bounds the work, and -1 if there is not enough memory. */
EXPORT int colours_code(
    uint64_t *state, uint32_t *words, int64_t count, uint16_t *blue, int64_t most)
{
    struct set *set = calloc(1, sizeof *set);
    int64_t total = 0;
    if (!set)
        return -1;
    set->bits = from_state(state, words, count);
    be_fresh(set->contexts, CONTEXTS);
    be_fresh(set->blocks, COUNT(set->blocks));
    be_mixer(set->weights[0], MIXERS, MIXED);
    for (int block = 0; block < BLOCKS * BLOCKS * BLOCKS; block++) {
        int r = block / (BLOCKS * BLOCKS), g = block / BLOCKS % BLOCKS, b = block % BLOCKS;
        int known = 0;
        for (int i = 0; i < COUNT(blocks_before); i++) {
            const int *step = blocks_before[i];
            known = 2 * known + set->filled[r + 1 + step[0]][g + 1 + step[1]][b + 1 + step[2]];
        }
        int there = set->bits.encoding && has_any(blue, BLOCK * r, BLOCK * g, BLOCK * b);
        there = code_bit(&set->bits, set->blocks + known, SET_LIMIT, there);
        set->filled[r + 1][g + 1][b + 1] = (uint8_t)there;
        if (there) {
            int found = code_block(set, blue, BLOCK * r, BLOCK * g, BLOCK * b);
            total += found;
            if (found == 0 || total > most) {
                total = 0;
                break;
            }
        }
    }
    to_state(&set->bits, state);
    free(set);
    return total > 0;
}

/* (n, 3) pixels -> their set (65536, 16), which is zeros before. */
EXPORT void colours_mark(const uint8_t *pixels, int64_t n, uint16_t *blue)
{
    for (; n > 0; n--, pixels += 3)
        blue[16 * (256 * pixels[0] + pixels[1]) + (pixels[2] >> 4)] |=
            (uint16_t)(1 << (pixels[2] & 15));
}

/* (n): the fraction of the places around each colour (n, 3) that are taken, by the weights (n, 3, 7) of
 * 3 steps in either direction of red, green - red and blue - green. */
EXPORT void colours_room(const uint16_t *blue, const uint8_t *colours, const double *weights,
    int64_t n, double *out)
{
    for (int64_t at = 0; at < n; at++, colours += 3, weights += 21) {
        double taken = 0, inside = 0;
        for (int i = -3; i <= 3; i++)
            for (int j = -3; j <= 3; j++) {
                int red = colours[0] + i, green = colours[1] + i + j, blues = colours[2] + i + j;
                double row = weights[3 + i] * weights[10 + j];
                if ((red | green) & -256)
                    continue;
                const uint16_t *words = blue + 16 * (256 * red + green);
                for (int k = -3; k <= 3; k++) {
                    int value = blues + k;
                    if (value & -256)
                        continue;
                    double weight = row * weights[17 + k];
                    inside += weight;
                    taken += words[value >> 4] >> (value & 15) & 1 ? weight : 0;
                }
            }
        out[at] = taken / inside;
    }
}
