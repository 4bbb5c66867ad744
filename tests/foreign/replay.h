/* What a replayed request is made of: numbers of 64 bits, and bytes after their number. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static FILE *request, *answer;

static void *bytes(size_t size)
{
    void *found = aligned_alloc(64, (size + 64) & ~(size_t)63);
    if (found == NULL || fread(found, 1, size, request) != size)
        exit(1);
    return found;
}

static int64_t number(void)
{
    int64_t *found = bytes(sizeof *found), value = *found;
    free(found);
    return value;
}

static void say(const void *what, size_t size)
{
    if (fwrite(what, 1, size, answer) != size)
        exit(1);
}

static void begin_replay(char **names)
{
    request = fopen(names[1], "rb");
    answer = fopen(names[2], "wb");
    if (request == NULL || answer == NULL)
        exit(1);
}

/* Whatever in a structure is the address that something had becomes the one that it has. */
static void move(void *structure, size_t size, int64_t there, void *here)
{
    unsigned char *found = structure;
    for (size_t at = 0; at + sizeof here <= size; at += sizeof here)
        if (memcmp(found + at, &there, sizeof here) == 0)
            memcpy(found + at, &here, sizeof here);
}
