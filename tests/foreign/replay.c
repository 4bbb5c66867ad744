/* The engine on a machine that has no Python, such as an emulated one; see test_foreign.py.
 *
 *     replay                        each instruction set: its name, group, depth, offset
 *     replay REQUEST ANSWER         products and tiles as REQUEST describes them
 *
 * Numbers are 64 bits each. A network comes as the structure that ctypes made of it, with the
 * arrays that it points to: whatever in it is the address of one becomes where that lies here. */

#include "engine.c"
#include "replay.h"

static struct network *network(void)
{
    if (number() != (int64_t)sizeof(struct network))
        exit(2);
    unsigned char *found = bytes(sizeof(struct network));
    for (int64_t arrays = number(); arrays > 0; arrays--) {
        int64_t there = number();
        move(found, sizeof(struct network), there, bytes(number()));
    }
    return (struct network *)found;
}

static void product(const struct network *net, int isa)
{
    int rows = (int)number();
    uint8_t *x = bytes((size_t)(rows + ROWS) * net->stem.pitch);
    size_t size = (size_t)rows * net->stem.outputs * sizeof(int32_t);
    int32_t *sums = memory(size);
    engine_product(&net->stem, isa, rows, x, sums);
    say(sums, size);
}

static void tile(const struct network *net, int isa)
{
    int height = (int)number(), width = (int)number(), channels = (int)number();
    int each = (int)number();
    size_t area = (size_t)height * width, size = area * channels * 2 * 3 * sizeof(float);
    uint8_t *pixels = bytes(area * channels), *samples = bytes(area * each), *payload;
    float *intervals = memory(size);
    struct decoder decoder;
    struct evaluation *ev = engine_open(net, isa, height, width, channels, pixels, 0, samples, each);
    if (engine_score(ev, height, NULL, NULL, intervals) != 0)
        exit(3);
    engine_close(ev);
    say(intervals, size);
    size = (size_t)number();
    payload = bytes(size);
    ev = engine_open(net, isa, height, width, channels, NULL, 0, samples, each);
    memset(pixels, 0, area * channels);
    start(&decoder, payload, size);
    uint64_t state[3] = {decoder.offset, decoder.range, decoder.position};
    if (engine_decode(ev, NULL, NULL, payload, size, pixels, state) != 0)
        exit(4);
    engine_close(ev);
    say(pixels, area * channels);
    say(state, sizeof state);
}

int main(int count, char **names)
{
    if (count < 3) {
        find_backends();
        for (int isa = 0; engine_name(isa) != NULL; isa++)
            printf("%s %d %d %d\n", engine_name(isa), engine_group(isa), engine_depth(isa),
                engine_offset(isa));
        return 0;
    }
    begin_replay(names);
    int64_t *tables[3];
    for (int i = 0; i < 3; i++)
        tables[i] = bytes(number());
    engine_start(tables[0], tables[1], tables[2]);
    int isa = (int)number();
    struct network *net = network();
    product(net, isa);
    for (int64_t tiles = number(); tiles > 0; tiles--)
        tile(net, isa);
    return fclose(answer) != 0;
}
