/* The pixels that differ from what an origin renders: docs/format.md, "Corrections";
 * pixelzip.codec.corrections explains the kinds and contexts. */

#include "bits.h"
#include "export.h"

#include <string.h>

enum { SAME, LEFT, ABOVE, AGAIN, RENDERED, PREDICTED };
enum {
    LASTING = 65535, /* limits of contexts: of whether pixels differ; of the rest */
    QUICK = 255,
    GAPS = 10,
    SIZES = 9,
    STORIES = 5,
    FAINT = 8,
    FIELDS = 4,
    NEAR = 1 << 10, /* which of ten pixels around differ */
    MARGIN = 2,     /* of a row of kinds, on either side */
};

struct model {
    struct bits bits;
    struct context mask[2 * NEAR + 2 * GAPS];
    struct context kinds[6 * 6 * 4];
    struct context sizes[2 * FIELDS * STORIES * (SIZES + 1) * SIZES];
    struct context signs[2 * FIELDS * 3];
    struct context rests[2 * SIZES * SIZES];
};

/* A pixel: its own bytes, those of the pixels around (NULL outside of the picture). */
struct place {
    uint8_t *here;
    const uint8_t *rendered, *left, *above, *corner;
};

static int size_of(int64_t number)
{
    int size = 0;
    for (; number > 0; number >>= 1)
        size++;
    return size;
}

static int magnitude(int number)
{
    return number < 0 ? -number : number;
}

static int within(int number, int lowest, int highest)
{
    return number < lowest ? lowest : number > highest ? highest : number;
}

/* Modulo 256, from -128 to 127. */
static int signed_byte(int difference)
{
    return ((difference + 128) & 255) - 128;
}

static int at(const uint8_t *pixel, int channel)
{
    return pixel ? pixel[channel] : 0;
}

/* What a channel is likely to be, the channel before it being off by `before`: what is rendered,
 * or what the median predictor of JPEG-LS says. */
static int base_of(const struct place *place, int channel, int kind, int before)
{
    if (kind == RENDERED) {
        int base = place->rendered[channel];
        return magnitude(before) < FAINT ? base : within(base + before, 0, 255);
    }
    int left = at(place->left, channel), above = at(place->above, channel);
    int guess = left + above - at(place->corner, channel);
    guess = left < above ? within(guess, left, above) : within(guess, above, left);
    return within(guess + before, 0, 255);
}

/* How much the pixels around differ: 0 to 9. */
static int activity(const struct place *place, int channel)
{
    int corner = at(place->corner, channel);
    return size_of(magnitude(at(place->left, channel) - corner)
        + magnitude(at(place->above, channel) - corner));
}

/* What the differences were like up to this channel: 0 of nothing, 1 all zero; 2, 3 and 4: the last
 * one was 0, 1, or more. */
static int story_of(int channel, int story, int difference)
{
    if (difference == 0 && (channel == 0 || story == 1))
        return 1;
    return 2 + within(size_of(magnitude(difference)), 0, 2);
}

static int equals(const uint8_t *pixel, const uint8_t *other, int channels)
{
    for (int channel = 0; channel < channels; channel++)
        if (pixel[channel] != at(other, channel))
            return 0;
    return 1;
}

/* What to code of a pixel that is known. */
static int kind_of(const struct place *place, const uint8_t *again, int channels)
{
    int largest = 0, gain = 0, from_rendered = 0, from_predicted = 0;
    for (int channel = 0; channel < channels; channel++) {
        int off = magnitude(place->here[channel] - place->rendered[channel]);
        largest = off > largest ? off : largest;
    }
    if (largest <= 1)
        return largest == 0 ? SAME : RENDERED;
    if (place->left && equals(place->here, place->left, channels))
        return LEFT;
    if (place->above && equals(place->here, place->above, channels))
        return ABOVE;
    if (equals(place->here, again, channels))
        return AGAIN;
    for (int channel = 0; channel < channels; channel++) { /* in bits of the differences' sizes */
        int value = place->here[channel];
        from_rendered = signed_byte(value - base_of(place, channel, RENDERED, from_rendered));
        from_predicted = signed_byte(value - base_of(place, channel, PREDICTED, from_predicted));
        gain += size_of(magnitude(from_rendered)) - size_of(magnitude(from_predicted));
    }
    return gain > 0 ? PREDICTED : RENDERED;
}

/* A kind but SAME: is it LEFT? If not, ABOVE? And so on. */
static int code_kind(struct model *model, int context, int kind)
{
    for (int tried = LEFT; tried < PREDICTED; tried++)
        if (code_bit(&model->bits, model->kinds + context + tried - 1, QUICK, kind == tried))
            return tried;
    return PREDICTED;
}

/* A difference of -128 to 127: its size in unary, then its sign, then its lower bits. */
static int code_difference(
    struct model *model, struct context *sizes, int sign, int predicts, int wanted)
{
    int target = size_of(magnitude(wanted)), size = 0, number = 1;
    while (size < SIZES - 1 && code_bit(&model->bits, sizes + size, QUICK, target > size))
        size++;
    if (size == 0)
        return 0;
    int negative = code_bit(&model->bits, model->signs + sign, QUICK, wanted < 0);
    struct context *rests = model->rests + (predicts * SIZES + size) * SIZES;
    for (int place = size - 2; place >= 0; place--)
        number = 2 * number
            + code_bit(&model->bits, rests + place, QUICK, magnitude(wanted) >> place & 1);
    return negative ? -number : number;
}

/* The channels of a pixel as differences from its rendering, or from what is predicted. */
static void code_channels(struct model *model, const struct place *place, int kind, int channels)
{
    int predicts = kind == PREDICTED, before = 0, story = 0;
    for (int channel = 0; channel < channels; channel++) {
        int base = base_of(place, channel, kind, before);
        int where = 2 * (channel < FIELDS ? channel : FIELDS - 1) + predicts;
        int context = where * STORIES + story;
        context = context * (SIZES + 1) + (predicts ? activity(place, channel) : 0);
        int sign = 3 * where + (before > 0) + 2 * (before < 0);
        before = code_difference(model, model->sizes + context * SIZES, sign, predicts,
            signed_byte(place->here[channel] - base));
        place->here[channel] = (uint8_t)(base + before);
        story = story_of(channel, story, before);
    }
}

static int is_clipped(const uint8_t *pixel, int channels)
{
    for (int channel = 0; channel < channels; channel++)
        if (pixel[channel] == 0 || pixel[channel] == 255)
            return 1;
    return 0;
}

/* Which of ten pixels around differ. `rows` are those of the kinds, this one and two above. */
static int neighbours(uint8_t *const *rows, int64_t x)
{
    int near = 0;
    for (int64_t column = x + 1; column < x + 4; column++)
        near = 2 * near + (rows[2][column] != SAME);
    for (int64_t column = x; column < x + 5; column++)
        near = 2 * near + (rows[1][column] != SAME);
    for (int64_t column = x; column < x + 2; column++)
        near = 2 * near + (rows[0][column] != SAME);
    return near;
}

/* Encode the pixels (height, width, channels), or decode them over what they hold, which is what is
 * rendered. Returns 0 if there is not enough memory. */
EXPORT int corrections_code(uint64_t *state, uint32_t *words, int64_t count,
    const uint8_t *rendered, uint8_t *pixels, int64_t height, int64_t width, int channels)
{
    size_t pitch = (size_t)width + 2 * MARGIN;
    struct model *model = malloc(sizeof *model);
    uint8_t *kinds = calloc(3, pitch), *again = malloc((size_t)channels + 1);
    int64_t gap = 0, row = width * channels;
    if (!model || !kinds || !again) {
        free(model), free(kinds), free(again);
        return 0;
    }
    memset(again, 255, (size_t)channels + 1);
    model->bits = from_state(state, words, count);
    be_fresh(model->mask, sizeof model->mask / sizeof *model->mask);
    be_fresh(model->kinds, sizeof model->kinds / sizeof *model->kinds);
    be_fresh(model->sizes, sizeof model->sizes / sizeof *model->sizes);
    be_fresh(model->signs, sizeof model->signs / sizeof *model->signs);
    be_fresh(model->rests, sizeof model->rests / sizeof *model->rests);
    for (int64_t y = 0; y < height; y++) {
        uint8_t *rows[3]; /* of kinds: this row, and those above */
        for (int i = 0; i < 3; i++)
            rows[i] = kinds + pitch * (size_t)((y + 3 - i) % 3);
        memset(rows[0], SAME, pitch);
        for (int64_t x = 0; x < width; x++) {
            int64_t offset = y * row + x * channels;
            uint8_t *here = pixels + offset;
            struct place place = {here, rendered + offset, x > 0 ? here - channels : NULL,
                y > 0 ? here - row : NULL, x > 0 && y > 0 ? here - row - channels : NULL};
            int near = neighbours(rows, x), context = 2 * near;
            if (near == 0)
                context = 2 * NEAR + 2 * within((size_of(gap) + 2) / 3, 0, GAPS - 1);
            context += is_clipped(place.rendered, channels);
            int kind = model->bits.encoding ? kind_of(&place, again, channels) : SAME;
            gap++;
            if (!code_bit(&model->bits, model->mask + context, LASTING, kind != SAME))
                continue;
            gap = 0;
            int around = 4 * (6 * rows[0][x + 1] + rows[1][x + 2]);
            kind = code_kind(model, around, kind);
            rows[0][x + 2] = (uint8_t)kind;
            if (kind == AGAIN) {
                memcpy(here, again, (size_t)channels);
            } else if (kind == LEFT || kind == ABOVE) {
                const uint8_t *beside = kind == LEFT ? place.left : place.above;
                for (int channel = 0; channel < channels; channel++)
                    again[channel] = here[channel] = (uint8_t)at(beside, channel);
            } else {
                code_channels(model, &place, kind, channels);
            }
        }
    }
    to_state(&model->bits, state);
    free(model), free(kinds), free(again);
    return 1;
}
