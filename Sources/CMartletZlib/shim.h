#pragma once

#include <zlib.h>

// zlib's own are macros.
static inline int martlet_inflateInit2(z_stream *stream, int window_bits) { return inflateInit2(stream, window_bits); }

static inline int martlet_deflateInit2(z_stream *stream, int level, int window_bits) {
    return deflateInit2(stream, level, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY);
}
