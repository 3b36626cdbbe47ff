#include "resp.h"
#include <stdlib.h>
#include <string.h>

// A value is complete: so may be the arrays that it is the last of.
static void close(Replies *replies, const char *problem) {
    while (replies->depth > 0 && --replies->left[replies->depth - 1] == 0) replies->depth--;
    if (replies->depth == 0) replies->reply(replies, problem);
}

static void takeLine(Replies *replies) {
    char *text = replies->line + 1;
    replies->line[replies->lineCount] = 0;
    switch (replies->line[0]) {
    case '*': {
        long count = atol(text);
        if (count <= 0) {
            close(replies, NULL);
        } else {
            if (replies->depth == 8) fail("Redis: arrays too deep");
            replies->left[replies->depth++] = count;
        }
        break;
    }
    case '$': {
        long count = atol(text);
        if (count < 0) {
            close(replies, NULL);
        } else {
            replies->inBulk = true;
            replies->headCount = 0;
            replies->skip = (size_t)count + 2;
        }
        break;
    }
    case '-':
        close(replies, text);
        break;
    case ':':
    case '+':
        replies->value(replies, replies->depth, text, replies->lineCount - 1);
        close(replies, NULL);
        break;
    default:
        fail("Redis: no reply begins with %d", replies->line[0]);
    }
}

void parseReplies(Replies *replies, const uint8_t *bytes, size_t count) {
    const uint8_t *end = bytes + count;
    while (bytes < end) {
        if (replies->inBulk) {
            size_t part = (size_t)(end - bytes) < replies->skip ? (size_t)(end - bytes) : replies->skip;
            size_t room = sizeof replies->head - replies->headCount, kept = part < room ? part : room;
            memcpy(replies->head + replies->headCount, bytes, kept);
            replies->headCount += kept;
            bytes += part;
            replies->skip -= part;
            if (replies->skip > 0) continue;
            replies->inBulk = false;
            size_t known = replies->headCount;
            // The line's end may be among what was kept.
            while (known > 0 && (replies->head[known - 1] == '\n' || replies->head[known - 1] == '\r')) known--;
            replies->value(replies, replies->depth, replies->head, known);
            close(replies, NULL);
            continue;
        }
        const uint8_t *newline = memchr(bytes, '\n', (size_t)(end - bytes));
        size_t part = (size_t)((newline ? newline : end) - bytes), room = sizeof replies->line - 1 - replies->lineCount;
        memcpy(replies->line + replies->lineCount, bytes, part < room ? part : room);
        replies->lineCount += part < room ? part : room;
        bytes += part;
        if (newline == NULL) return;
        bytes++;
        if (replies->lineCount > 0 && replies->line[replies->lineCount - 1] == '\r') replies->lineCount--;
        takeLine(replies);
        replies->lineCount = 0;
    }
}
