/* The tables of the adaptive binary coder, and its simplest model: a row of flags. */

#include "bits.h"
#include "export.h"

int32_t bits_logit[1 << LOGIT_BITS];
int32_t bits_sigmoid[2049];

EXPORT void bits_tables(const int64_t *logit, const int64_t *sigmoid)
{
    for (int i = 0; i < 1 << LOGIT_BITS; i++)
        bits_logit[i] = (int32_t)logit[i];
    for (int i = 0; i < 2049; i++)
        bits_sigmoid[i] = (int32_t)sigmoid[i];
}

/* Flags are coded in four contexts together: what so many flags before them were. */
enum { HISTORIES = 4, LONGEST = 13 };
static const int histories[HISTORIES] = {2, 5, 9, LONGEST};

/* Encode n flags, or decode them. Returns 0 if there is not enough memory. */
EXPORT int flags_code(uint64_t *state, uint32_t *words, int64_t count, uint8_t *flags, int64_t n)
{
    size_t size = (size_t)1 << (LONGEST + 1);
    struct context *contexts = malloc(size * sizeof *contexts);
    struct bits bits = from_state(state, words, count);
    int64_t weights[HISTORIES], before = 0;
    if (!contexts)
        return 0;
    be_fresh(contexts, size);
    be_mixer(weights, 1, HISTORIES);
    for (int64_t i = 0; i < n; i++) {
        int64_t chosen[HISTORIES];
        for (int k = 0; k < HISTORIES; k++)
            chosen[k] = ((int64_t)1 << histories[k]) + (before & ((1 << histories[k]) - 1));
        flags[i] = (uint8_t)code_mixed(
            &bits, contexts, chosen, HISTORIES, 255, weights, flags[i] != 0);
        before = (2 * before + flags[i]) & ((1 << LONGEST) - 1);
    }
    to_state(&bits, state);
    free(contexts);
    return 1;
}
