/* The papers' programs on a machine that has no Python; see test_foreign.py and replay.c.
 *
 *     replay                        each instruction set by its name
 *     replay REQUEST ANSWER         a product and tiles as REQUEST describes them
 *
 * All that ctypes and numpy laid out comes in pieces, each with the address that it had; those that
 * are structures point to others. */

#include "programs.c"
#include "replay.h"

struct piece {
    int64_t there, size, is_structure;
    void *here;
};

/* A structure of this size, whose pointers are to the pieces. */
static void *structure(size_t size, const struct piece *pieces, int64_t count)
{
    void *found = bytes(size);
    for (int64_t i = 0; i < count; i++)
        move(found, size, pieces[i].there, pieces[i].here);
    return found;
}

static void product(const struct matrix *matrix, int isa)
{
    int bits = (int)number(), n = (int)number();
    int64_t each = 2 * (int64_t)matrix->pairs;
    int16_t *x = bytes(n * each * sizeof *x);
    int16_t *parts = calloc(2 * CHUNK * each, sizeof *parts);
    double *sums = calloc((size_t)n * matrix->outputs, sizeof *sums);
    program_product(matrix, isa, bits, n, x, sums, parts);
    say(sums, (size_t)n * matrix->outputs * sizeof *sums);
}

static void tile(const struct program *p, int isa)
{
    int height = (int)number(), width = (int)number(), channels = (int)number();
    int label = (int)number();
    size_t values = (size_t)height * width * channels, each = parameters_each(p);
    int16_t *image = bytes((size_t)height * width * (p->colours + 1) * sizeof *image);
    uint8_t *pixels = bytes(values);
    int32_t *out = calloc(values * each, sizeof *out);
    char *memory = calloc(program_memory(p, BY_ROWS, height, width), 1);
    struct evaluation *ev = program_open(p, isa, BY_ROWS, height, width, channels, label, memory);
    program_tell(ev, 0, image, height, width);
    program_score(ev, height, pixels, out);
    say(out, values * each * sizeof *out);
    size_t length = (size_t)number();
    uint8_t *payload = bytes(length);
    uint64_t *state = bytes(3 * sizeof *state);
    memset(pixels, 0, values);
    memory = calloc(program_memory(p, BY_STEPS, height, width), 1);
    ev = program_open(p, isa, BY_STEPS, height, width, channels, label, memory);
    if (program_decode(ev, payload, length, state, NULL, pixels) != 0)
        exit(4);
    say(pixels, values);
    say(state, 3 * sizeof *state);
}

int main(int count, char **names)
{
    if (count < 3) {
        for (int isa = 0; program_isa(isa) != NULL; isa++)
            printf("%s\n", program_isa(isa));
        return 0;
    }
    begin_replay(names);
    int64_t *tables[6];
    for (int i = 0; i < 6; i++)
        tables[i] = bytes(number());
    program_tables(tables[0], tables[1], tables[2], tables[3]);
    program_logarithms(tables[4], tables[5]);
    int isa = (int)number();
    int64_t many = number();
    struct piece *pieces = calloc(many, sizeof *pieces);
    for (int64_t i = 0; i < many; i++) {
        pieces[i].there = number();
        pieces[i].is_structure = number();
        pieces[i].size = number();
        pieces[i].here = bytes(pieces[i].size);
    }
    for (int64_t i = 0; i < many; i++)
        for (int64_t k = 0; pieces[i].is_structure && k < many; k++)
            move(pieces[i].here, pieces[i].size, pieces[k].there, pieces[k].here);
    product(structure(sizeof(struct matrix), pieces, many), isa);
    struct program *program = structure(sizeof *program, pieces, many);
    for (int64_t tiles = number(); tiles > 0; tiles--)
        tile(program, isa);
    return fclose(answer) != 0;
}
