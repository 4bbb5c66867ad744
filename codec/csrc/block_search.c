/* The search for the coefficients of blocks of samples: see pixelzip.codec.origins.blocks. */

#include "export.h"
#include "idct.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

struct plane {
    const uint8_t *samples, *low, *high; /* a sample whose bounds are the same is known */
    int64_t height, width;
};

enum {
    UNIT = 8, /* residuals count in 2^-8 of a sample */
    FAR = 8000, /* beyond which residuals are not told apart */
    NEAREST_LOW = -128, NEAREST_HIGH = 127, /* what rounds to a sample */
    OPEN = 16383, /* no bound; all sums of three such numbers fit 16 bits */
    DOUBTFUL = 384, /* a coefficient that is farther from a multiple of its step is not that one */
    GREEDY = 8, /* moves before the first restart, and after each ... */
    AGAIN = 5,
    MOSTLY = 48, /* samples of a block that have to be known where nothing tells of the others */
    REST = 3, /* moves for which a coefficient that was moved stays as it is */
};

/* A block whose coefficients are sought. Residuals are what is rendered less what is there; where
 * they lie between `low` and `high`, the sample fits. */
struct block {
    int16_t samples[64]; /* less 128 */
    int16_t low[64], high[64], residuals[64];
    int16_t *coefficients;
    const uint16_t *steps;
    int transposed;
    int known, exact; /* how many samples are known, and how many of these are not clamped */
};

/* A coefficient that may be one more, or less. */
struct move {
    int16_t change[64]; /* of residuals */
    int16_t sign, home; /* of the change of the coefficient: now, at first */
    int frequency, until;
    uint32_t chance; /* of 2^16: that it should be made */
};

static int16_t bounded(int32_t number)
{
    return (int16_t)(number < -FAR ? -FAR : number > FAR ? FAR : number);
}

/* Whether a sample is known, and not clamped. */
static int is_exact(const struct block *block, int i)
{
    return block->low[i] == NEAREST_LOW && block->high[i] == NEAREST_HIGH;
}

static int is_open(const struct block *block, int i)
{
    return block->low[i] == -OPEN && block->high[i] == OPEN;
}

/* By how much residuals that change leave their bounds. */
static int32_t excess(const struct block *block, const int16_t *change)
{
    int32_t sum = 0;
    for (int i = 0; i < 64; i++) {
        int16_t residual = (int16_t)(block->residuals[i] + change[i]);
        int16_t above = (int16_t)(residual - block->high[i]);
        int16_t below = (int16_t)(block->low[i] - residual);
        above = above > below ? above : below;
        above = above > 0 ? above : 0;
        sum += above < 4095 ? above : 4095;
    }
    return sum;
}

/* Residuals exactly; returns how many samples do not fit. */
static int compare(struct block *block)
{
    int32_t made[64];
    int wrong = 0;
    inverse(block->coefficients, block->steps, block->transposed, made);
    for (int i = 0; i < 64; i++) {
        int32_t residual = (made[i] - block->samples[i] * (1 << LAST_SHIFT)) >> (LAST_SHIFT - UNIT);
        block->residuals[i] = bounded(residual);
        wrong += block->residuals[i] < block->low[i] || block->residuals[i] > block->high[i];
    }
    return wrong;
}

/* What one step more of a frequency adds to residuals. */
static void wave(int frequency, int step, int16_t *change)
{
    for (int i = 0; i < 64; i++) {
        int64_t product = WAVES[frequency >> 3][i >> 3] * WAVES[frequency & 7][i & 7];
        change[i] = bounded((int32_t)((product * step + (1 << 20)) >> 21));
    }
}

/* The coefficients that samples have, rounded; returns the moves to those that are next to them,
 * without their changes. */
static int round_off(struct block *block, const int16_t *samples, struct move *moves)
{
    static const uint16_t chances[] = {32768, 24000, 17600, 11952, 7809, 4980, 3124, 1939, 1196,
        735, 451, 276, 169, 103, 63, 39, 24};
    int32_t spectrum[64];
    int count = 0;
    forward(samples, spectrum);
    for (int k = 0; k < 64; k++) {
        int32_t step = block->steps[k] << UNIT, size = spectrum[k] < 0 ? -spectrum[k] : spectrum[k];
        int32_t number = (size + step / 2) / step, off = size - number * step;
        int16_t sign = (off < 0) == (spectrum[k] < 0) ? 1 : -1;
        off = off < 0 ? -off : off;
        block->coefficients[k] = saturated(spectrum[k] < 0 ? -number : number);
        if (!moves || step - off >= DOUBTFUL)
            continue;
        /* By 6 times the difference of the squares of both distances. */
        int64_t doubt = (int64_t)step * (step - 2 * off) * 12 >> 16;
        moves[count].frequency = k;
        moves[count].sign = moves[count].home = sign;
        moves[count].until = 0;
        moves[count++].chance = chances[doubt > 16 ? 16 : doubt];
    }
    return count;
}

static void make(struct block *block, struct move *move)
{
    int16_t *coefficient = block->coefficients + move->frequency;
    *coefficient = saturated(*coefficient + move->sign);
    move->sign = (int16_t)-move->sign;
    for (int i = 0; i < 64; i++)
        move->change[i] = (int16_t)-move->change[i];
}

static uint32_t chance_of(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state & 0xffff;
}

/* Look for coefficients that fit all samples among those that differ from these by some moves, of
 * which the changes are found here: make the best one, again and again, and from time to time begin
 * somewhere else. Returns how many samples do not fit in the end. */
static int search(struct block *block, struct move *moves, int count, int effort)
{
    int16_t best[64];
    int least = compare(block), left = GREEDY;
    uint32_t random = 1;
    memcpy(best, block->coefficients, sizeof best);
    for (int i = 0; least && i < count; i++) /* most blocks fit, and want no moves */
        wave(moves[i].frequency, moves[i].sign * block->steps[moves[i].frequency], moves[i].change);
    for (int turn = 1; least && count && turn <= effort; turn++) {
        if (left-- > 0) {
            int chosen = -1, rest = REST < count / 2 ? REST : count / 2;
            int32_t lowest = INT32_MAX;
            for (int i = 0; i < count; i++) {
                int32_t left_over = INT32_MAX;
                if (moves[i].until <= turn)
                    left_over = excess(block, moves[i].change);
                if (left_over < lowest) {
                    lowest = left_over;
                    chosen = i;
                }
            }
            make(block, moves + chosen);
            moves[chosen].until = turn + 1 + rest;
        } else {
            for (int i = 0; i < count; i++) {
                int wanted = chance_of(&random) < moves[i].chance;
                moves[i].until = 0;
                if (wanted != (moves[i].sign != moves[i].home))
                    make(block, moves + i);
            }
            left = AGAIN;
        }
        int wrong = compare(block);
        if (wrong < least) {
            least = wrong;
            memcpy(best, block->coefficients, sizeof best);
        }
    }
    memcpy(block->coefficients, best, sizeof best);
    return least;
}

/* A block whose samples all bound it on both sides. */
static int solve(struct block *block, int effort)
{
    struct move moves[64];
    int count = round_off(block, block->samples, moves);
    return search(block, moves, count, effort);
}

/* A block with samples that are not known, or clamped: they become what is rendered there. */
static int guess(struct block *block, int effort)
{
    int16_t samples[64], best[64];
    int least = 65;
    struct move moves[64];
    memcpy(samples, block->samples, sizeof samples);
    for (int turn = 0; turn < 16 && least; turn++) {
        int count = round_off(block, samples, moves);
        int wrong = compare(block);
        if (wrong < least) {
            least = wrong;
            memcpy(best, block->coefficients, sizeof best);
        }
        if (least && turn % 4 == 3) {
            wrong = search(block, moves, count, effort / 4);
            if (wrong < least) {
                least = wrong;
                memcpy(best, block->coefficients, sizeof best);
            }
            compare(block);
        }
        for (int i = 0; i < 64; i++) {
            int16_t residual = block->residuals[i];
            if (is_exact(block, i))
                continue;
            if (residual > block->high[i])
                residual = block->high[i];
            if (residual < block->low[i])
                residual = block->low[i];
            samples[i] = (int16_t)(block->samples[i] + ((residual + 128) >> UNIT));
        }
    }
    memcpy(block->coefficients, best, sizeof best);
    return least;
}

/* --- Blocks of which something is not known --------------------------------------------------- */

/* What is known are sums of coefficients, with noise; and how often coefficients have a size. To
 * begin with, take sizes for normally distributed: then what is known of one coefficient, whatever
 * the earlier ones are, follows from a triangular matrix. So coefficients are chosen one by one,
 * the last one first, and of all choices some of the likeliest are kept: a beam. */

enum { BEAM = 64, KEPT = 24, CHILDREN = 8, SIZES = 64, TURNS = 8 };

#define NOISE 0.22 /* standard deviation of what is known of a sum */
#define ROUGHLY 0.5 /* weight of a bound at first */
#define GAP 12.0 /* a choice that is less likely than the best one by more than that is none */

/* What a coefficient costs, as a negative logarithm, by its size; and its mean square. */
struct prior {
    const double *costs; /* (64, SIZES) */
    const double *slopes; /* (64), beyond */
    const double *squares; /* (64) */
};

/* Coefficients of `count` frequencies whose sums are known. */
struct lattice {
    int count, frequencies[64];
    double matrix[64][64], target[64]; /* normal equations, and then their triangular factor */
};

struct solution {
    int16_t numbers[64];
    double cost;
};

struct choice {
    double cost;
    int parent, number;
};

/* Where to work. */
struct space {
    struct lattice lattice;
    struct solution beams[2][BEAM], solutions[BEAM];
    struct choice choices[BEAM * CHILDREN];
    double waves[64][64];
    struct move moves[128];
};

static double cost_of(const struct prior *prior, int frequency, int number)
{
    int size = number < 0 ? -number : number;
    const double *costs = prior->costs + frequency * SIZES;
    if (size < SIZES)
        return costs[size];
    return costs[SIZES - 1] + (size - SIZES + 1) * prior->slopes[frequency];
}

/* M = L L', and the target becomes what L times it was. Only the lower triangle of M is read. */
static void factorise(struct lattice *lattice)
{
    int n = lattice->count;
    double(*m)[64] = lattice->matrix, *t = lattice->target;
    for (int k = 0; k < n; k++) {
        for (int j = 0; j < k; j++) {
            for (int i = k; i < n; i++)
                m[i][k] -= m[i][j] * m[k][j];
            t[k] -= m[k][j] * t[j];
        }
        double root = sqrt(m[k][k] > 1e-9 ? m[k][k] : 1e-9);
        for (int i = k; i < n; i++)
            m[i][k] /= root;
        t[k] /= root;
    }
}

/* Bring the `most` least costly of the choices to the front. */
static int best_of(struct choice *choices, int count, int most)
{
    int low = 0, high = count - 1;
    while (count > most && low < high) {
        double pivot = choices[(low + high) / 2].cost;
        int i = low, j = high;
        while (i <= j) {
            while (choices[i].cost < pivot)
                i++;
            while (choices[j].cost > pivot)
                j--;
            if (i <= j) {
                struct choice other = choices[i];
                choices[i++] = choices[j];
                choices[j--] = other;
            }
        }
        if (most <= j)
            high = j;
        else if (most >= i)
            low = i;
        else
            break;
    }
    return count < most ? count : most;
}

/* What it costs that coefficient k is this number, `centre` with that weight. */
static double total(const struct lattice *lattice, const struct prior *prior, int k, int number,
    double centre, double weight)
{
    int frequency = lattice->frequencies[k];
    return weight * (number - centre) * (number - centre) + cost_of(prior, frequency, number)
        - number * (number / (2 * prior->squares[frequency]));
}

/* The likely values of coefficient k after a partial solution. */
static int branch(const struct lattice *lattice, const struct prior *prior, int k,
    const struct solution *partial, int parent, struct choice *out)
{
    double rest = lattice->target[k], pivot = lattice->matrix[k][k];
    for (int j = k + 1; j < lattice->count; j++)
        rest -= lattice->matrix[j][k] * partial->numbers[j];
    double centre = rest / pivot, weight = pivot * pivot / 2;
    centre = centre < -30000 ? -30000 : centre > 30000 ? 30000 : centre;
    int start = (int)floor(centre + 0.5), toward = start > 0 ? -1 : 1, count = 0;
    double here = total(lattice, prior, k, start, centre, weight);
    while (start) {
        double next = total(lattice, prior, k, start + toward, centre, weight);
        if (next > here)
            break;
        start += toward;
        here = next;
    }
    int up = start, down = start - 1;
    double above = here, below = total(lattice, prior, k, down, centre, weight);
    while (count < CHILDREN) {
        int rising = above <= below;
        double cost = rising ? above : below;
        if (cost > here + GAP)
            break;
        out[count++] = (struct choice){partial->cost + cost, parent, rising ? up : down};
        if (rising)
            above = total(lattice, prior, k, ++up, centre, weight);
        else
            below = total(lattice, prior, k, --down, centre, weight);
    }
    return count;
}

/* The likeliest coefficients, the best ones first; returns how many solutions there are. */
static int search_lattice(
    struct space *space, const struct prior *prior, struct solution *out, int most)
{
    struct lattice *lattice = &space->lattice;
    struct solution *now = space->beams[0], *next = space->beams[1];
    struct choice *choices = space->choices;
    int width = 1;
    factorise(lattice);
    memset(now, 0, sizeof *now);
    for (int k = lattice->count - 1; k >= 0; k--) {
        int count = 0;
        for (int i = 0; i < width; i++)
            count += branch(lattice, prior, k, now + i, i, choices + count);
        width = best_of(choices, count, BEAM);
        for (int i = 0; i < width; i++) {
            next[i] = now[choices[i].parent];
            next[i].numbers[k] = (int16_t)choices[i].number;
            next[i].cost = choices[i].cost;
        }
        struct solution *other = now;
        now = next;
        next = other;
    }
    int kept = 0;
    for (int i = 0; i < width; i++) {
        int at = kept < most ? kept++ : most;
        for (; at > 0 && now[i].cost < out[at - 1].cost; at--)
            if (at < most)
                out[at] = out[at - 1];
        if (at < most)
            out[at] = now[i];
    }
    return kept;
}

/* Where only some rows of a block are known, the transform along them takes the block apart: the
 * coefficients of each of the 8 frequencies along rows make as many sums as there are rows, and
 * nothing else. Of several solutions for each of these *groups* of 8 coefficients, those are put
 * together that render to the very samples. */
struct group {
    int count, frequencies[8];
    struct solution solutions[KEPT];
};

/* Which rows of a block are known; or, `by` 8, columns. None if others are known in part. */
static int whole_rows(const struct block *block, int by, int *places)
{
    int count = 0;
    for (int y = 0; y < 8; y++) {
        int exact = 0, open = 0;
        for (int x = 0; x < 8; x++) {
            int at = by == 8 ? 8 * x + y : 8 * y + x;
            exact += is_exact(block, at);
            open += is_open(block, at);
        }
        if (exact == 8)
            places[count++] = y;
        else if (open < 8)
            return 0;
    }
    return count;
}

static void assemble(struct block *block, const struct group *groups, const int *chosen)
{
    for (int g = 0; g < 8; g++)
        for (int k = 0; k < 8; k++)
            block->coefficients[groups[g].frequencies[k]]
                = groups[g].solutions[chosen[g]].numbers[k];
}

/* What a solution of a group adds to residuals. */
static void contribution(
    const struct block *block, const struct group *group, int which, int16_t *out)
{
    for (int i = 0; i < 64; i++) {
        double sum = 0;
        for (int k = 0; k < 8; k++) {
            int at = group->frequencies[k];
            sum += (double)WAVES[at >> 3][i >> 3] * WAVES[at & 7][i & 7] * block->steps[at]
                * group->solutions[which].numbers[k];
        }
        sum = sum / (1 << 21);
        out[i] = (int16_t)(sum < -FAR ? -FAR : sum > FAR ? FAR : sum);
    }
}

/* Choose a solution for each group so that all samples fit. */
static int combine(struct block *block, const struct group *groups, int effort)
{
    int16_t made[8][KEPT][64];
    int now[8] = {0}, until[8][KEPT] = {{0}}, best[8] = {0}, least = 65;
    for (int turn = 0; turn <= effort; turn++) {
        assemble(block, groups, now);
        int wrong = compare(block);
        if (wrong < least) {
            least = wrong;
            memcpy(best, now, sizeof best);
        }
        if (!wrong)
            break;
        for (int g = 0; g < 8 && !turn; g++)
            for (int s = 0; s < groups[g].count; s++)
                contribution(block, groups + g, s, made[g][s]);
        int chosen = -1, which = 0;
        double lowest = 1e300;
        for (int g = 0; g < 8; g++)
            for (int s = 0; s < groups[g].count; s++) {
                int16_t change[64];
                if (s == now[g] || until[g][s] > turn)
                    continue;
                for (int i = 0; i < 64; i++)
                    change[i] = bounded(made[g][s][i] - made[g][now[g]][i]);
                double cost = excess(block, change) + 4 * groups[g].solutions[s].cost;
                if (cost < lowest) {
                    lowest = cost;
                    chosen = g;
                    which = s;
                }
            }
        if (chosen < 0)
            break;
        until[chosen][now[chosen]] = turn + 6;
        now[chosen] = which;
    }
    assemble(block, groups, best);
    return least;
}

/* A block of which `rows` rows are known, or columns. */
static int solve_rows(struct block *block, const struct prior *prior, const int *places, int rows,
    int by, int effort, struct space *space)
{
    struct group groups[8];
    struct lattice *lattice = &space->lattice;
    double waves[8][8], lines[8][8];
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 8; i++)
            waves[k][i] = WAVES[k][i] / (8192 * sqrt(8.0));
    for (int i = 0; i < rows; i++)
        for (int g = 0; g < 8; g++) {
            lines[i][g] = 0;
            for (int x = 0; x < 8; x++) {
                int at = by == 8 ? 8 * x + places[i] : 8 * places[i] + x;
                lines[i][g] += waves[g][x] * block->samples[at];
            }
        }
    for (int g = 0; g < 8; g++) {
        lattice->count = 8;
        for (int k = 0; k < 8; k++)
            lattice->frequencies[k] = groups[g].frequencies[k] = by == 8 ? 8 * g + k : 8 * k + g;
        for (int k = 0; k < 8; k++) {
            double step = block->steps[lattice->frequencies[k]] / (NOISE * NOISE);
            lattice->target[k] = 0;
            for (int i = 0; i < rows; i++)
                lattice->target[k] += waves[k][places[i]] * lines[i][g] * step;
            for (int j = 0; j <= k; j++) {
                lattice->matrix[k][j] = j == k ? 1 / prior->squares[lattice->frequencies[k]] : 0;
                for (int i = 0; i < rows; i++)
                    lattice->matrix[k][j] += waves[k][places[i]] * waves[j][places[i]] * step
                        * block->steps[lattice->frequencies[j]];
            }
        }
        groups[g].count = search_lattice(space, prior, groups[g].solutions, KEPT);
    }
    return combine(block, groups, effort);
}

/* What is known of a sample in numbers, and how surely: 0 where it has no bounds, or one. */
static double weight_of(const struct block *block, int i, double *value)
{
    double width = block->high[i] - block->low[i] - (NEAREST_HIGH - NEAREST_LOW);
    *value = block->samples[i];
    if (block->low[i] == -OPEN || block->high[i] == OPEN)
        return 0;
    *value += (block->high[i] + block->low[i]) / (2.0 * (1 << UNIT));
    width = width / (1 << UNIT);
    return 1 / (NOISE * NOISE + width * width / 12);
}

/* The normal equations for the coefficients of samples with these values and weights. */
static void equations(struct space *space, const struct prior *prior, const double *values,
    const double *weights)
{
    struct lattice *lattice = &space->lattice;
    lattice->count = 64;
    for (int k = 0; k < 64; k++) {
        double weighted[64];
        lattice->frequencies[k] = k;
        lattice->target[k] = 0;
        for (int i = 0; i < 64; i++) {
            weighted[i] = space->waves[k][i] * weights[i];
            lattice->target[k] += weighted[i] * values[i];
        }
        for (int j = 0; j <= k; j++) {
            double sum = j == k ? 1 / prior->squares[k] : 0;
            for (int i = 0; i < 64; i++)
                sum += weighted[i] * space->waves[j][i];
            lattice->matrix[k][j] = sum;
        }
    }
}

/* A block of which any samples are known. A bound on one side counts where it is exceeded. */
static int solve_any(
    struct block *block, const struct prior *prior, int effort, struct space *space)
{
    double weights[64], values[64];
    int16_t best[64];
    int least = compare(block), count = 0;
    memcpy(best, block->coefficients, sizeof best);
    for (int i = 0; i < 64; i++)
        weights[i] = weight_of(block, i, values + i);
    for (int k = 0; k < 64; k++)
        for (int i = 0; i < 64; i++)
            space->waves[k][i] = (double)(WAVES[k >> 3][i >> 3] * WAVES[k & 7][i & 7])
                * block->steps[k] / (1 << 29);
    for (int turn = 0, exceeded = 1; turn < TURNS && least && exceeded; turn++) {
        equations(space, prior, values, weights);
        int found = search_lattice(space, prior, space->solutions, BEAM);
        for (int s = found - 1; s >= 0; s--) { /* the best one last: its residuals stay */
            memcpy(block->coefficients, space->solutions[s].numbers, sizeof best);
            int wrong = compare(block);
            if (wrong <= least) {
                least = wrong;
                memcpy(best, block->coefficients, sizeof best);
            }
        }
        exceeded = 0;
        for (int i = 0; i < 64; i++) {
            int below = block->residuals[i] < block->low[i];
            if (is_exact(block, i) || (!below && block->residuals[i] <= block->high[i]))
                continue;
            int bound = below ? block->low[i] - NEAREST_LOW : block->high[i] - NEAREST_HIGH;
            values[i] = block->samples[i] + bound / (double)(1 << UNIT);
            weights[i] = weights[i] < ROUGHLY ? ROUGHLY : 1 / (NOISE * NOISE);
            exceeded++;
        }
    }
    memcpy(block->coefficients, best, sizeof best);
    if (!least)
        return 0;
    for (int k = 0; k < 64; k++)
        for (int16_t sign = -1; sign <= 1; sign += 2)
            space->moves[count++] = (struct move){.frequency = k, .sign = sign, .home = sign};
    return search(block, space->moves, count, effort / 8);
}

static void cut(const struct plane *plane, int64_t top, int64_t left, struct block *block)
{
    block->known = block->exact = 0;
    for (int i = 0; i < 64; i++) {
        int64_t y = top + (i >> 3), x = left + (i & 7);
        int inside = y >= 0 && x >= 0 && y < plane->height && x < plane->width;
        y = y < 0 ? 0 : y < plane->height ? y : plane->height - 1;
        x = x < 0 ? 0 : x < plane->width ? x : plane->width - 1;
        int64_t at = y * plane->width + x;
        int sample = plane->samples[at], low = plane->low[at], high = plane->high[at];
        int below = (low - sample) * (1 << UNIT) + NEAREST_LOW;
        int above = (high - sample) * (1 << UNIT) + NEAREST_HIGH;
        block->samples[i] = (int16_t)(sample - 128);
        block->low[i] = (int16_t)(inside && low > 0 && below > -OPEN ? below : -OPEN);
        block->high[i] = (int16_t)(inside && high < 255 && above < OPEN ? above : OPEN);
        block->known += inside && low == high;
        block->exact += is_exact(block, i);
    }
}

/* The coefficients of the blocks of a grid with these numbers; the grid has so many columns.
 * `wrong` is how many samples of each do not fit. Without a prior only blocks are solved of which most is
 * known, `wrong` is 255 for the others. Returns 0 where there is no memory. */
EXPORT int blocks_solve(const uint8_t *samples, const uint8_t *low, const uint8_t *high,
    int64_t height, int64_t width, const uint16_t *steps, int64_t columns, int64_t top,
    int64_t left, int transposed, int effort,
    const double *costs, const double *slopes, const double *squares, const int64_t *numbers,
    int64_t count, int16_t *coefficients, uint8_t *wrong)
{
    struct plane plane = {samples, low, high, height, width};
    struct prior prior = {costs, slopes, squares};
    struct space *space = costs ? malloc(sizeof *space) : NULL;
    if (costs && !space)
        return 0;
    for (int64_t i = 0; i < count; i++) {
        struct block block;
        int64_t number = numbers[i], by = 1, rows;
        int places[8], misfits = 255;
        cut(&plane, 8 * (number / columns) - top, 8 * (number % columns) - left, &block);
        block.coefficients = coefficients + 64 * number;
        block.steps = steps;
        block.transposed = transposed;
        if (!costs) {
            if (block.known >= MOSTLY)
                misfits = block.exact == 64 ? solve(&block, effort) : guess(&block, effort);
        } else {
            int whole = block.exact == 64;
            rows = whole ? 0 : whole_rows(&block, by, places);
            if (!whole && !rows)
                rows = whole_rows(&block, by = 8, places);
            if (rows)
                misfits = solve_rows(&block, &prior, places, (int)rows, (int)by, effort, space);
            else if (!whole)
                misfits = guess(&block, effort);
            if (misfits)
                misfits = solve_any(&block, &prior, effort, space);
        }
        wrong[number] = (uint8_t)misfits;
    }
    free(space);
    return 1;
}
