// Replies of Redis, parsed as they arrive.
#pragma once
#include "bench.h"

typedef struct Replies Replies;
struct Replies {
    // A text or number inside `depth` arrays; only its first bytes are in `head`.
    void (*value)(Replies *replies, int depth, const char *head, size_t headCount);
    // A whole reply; `problem` is its text where it is an error.
    void (*reply)(Replies *replies, const char *problem);
    void *owner;
    // Used by the parser.
    long left[8];
    int depth;
    char line[64], head[64], type;
    size_t lineCount, headCount, skip;
    bool inBulk;
};

void parseReplies(Replies *replies, const uint8_t *bytes, size_t count);
