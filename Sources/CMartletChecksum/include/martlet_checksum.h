#ifndef MARTLET_CHECKSUM_H
#define MARTLET_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4) of what `crc` is the checksum of, followed by `count` bytes; 0 is the
/// checksum of no bytes. Uses the processor's instructions where it has them.
uint32_t martlet_crc32c(uint32_t crc, const void *bytes, size_t count);

/// The CRC-32C of three runs of bytes, one after the other.
uint32_t martlet_crc32c_of_parts(
    const void *first, size_t first_count, const void *second, size_t second_count, const void *third,
    size_t third_count);

/// A record and its checksum: that of its event's bytes, its tenant's and those before its event.
typedef struct {
    const void *event;
    size_t event_count;
    const void *head;
    size_t head_count;
    uint32_t checksum;
} martlet_summed_record;

/// Whether every record of the tenant whose 16 bytes are given fits its checksum. Three are summed at a time, since each
/// step of one has to wait for its last.
bool martlet_crc32c_fits(const martlet_summed_record *records, size_t count, const void *tenant);

/// As `martlet_crc32c`, by tables, on any processor.
uint32_t martlet_crc32c_by_table(uint32_t crc, const void *bytes, size_t count);

/// Whether two runs of `count` bytes are the same. Both pointers are valid, for 0 bytes too.
static inline bool martlet_is_same(const void *first, const void *second, size_t count) {
    return memcmp(first, second, count) == 0;
}

/// Whether the processor has the instructions.
bool martlet_crc32c_is_hardware(void);

#endif
