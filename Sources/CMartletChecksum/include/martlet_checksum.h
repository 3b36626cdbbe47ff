#ifndef MARTLET_CHECKSUM_H
#define MARTLET_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4) of what `crc` is the checksum of, followed by `count` bytes; 0 is the
/// checksum of no bytes. Uses the processor's instructions where it has them.
uint32_t martlet_crc32c(uint32_t crc, const void *bytes, size_t count);

/// The same by tables, on any processor.
uint32_t martlet_crc32c_by_table(uint32_t crc, const void *bytes, size_t count);

/// Whether the processor has the instructions.
bool martlet_crc32c_is_hardware(void);

#endif
