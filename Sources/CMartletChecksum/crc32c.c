#include "martlet_checksum.h"

#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif
#endif

// Eight bytes at a time ("slicing by 8", Kounavis and Berry 2005).
static uint32_t tables[8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void make_tables(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; bit++) value = value & 1 ? value >> 1 ^ 0x82F63B78u : value >> 1;
        tables[0][byte] = value;
    }
    for (uint32_t byte = 0; byte < 256; byte++)
        for (int slice = 1; slice < 8; slice++) {
            uint32_t previous = tables[slice - 1][byte];
            tables[slice][byte] = previous >> 8 ^ tables[0][previous & 0xFF];
        }
}

uint32_t martlet_crc32c_by_table(uint32_t crc, const void *bytes, size_t count) {
    pthread_once(&tables_once, make_tables);
    const uint8_t *next = bytes;
    uint32_t value = ~crc;
    for (; count >= 8; count -= 8, next += 8) {
        uint32_t low = value ^ ((uint32_t)next[0] | (uint32_t)next[1] << 8 | (uint32_t)next[2] << 16
                                | (uint32_t)next[3] << 24);
        value = tables[7][low & 0xFF] ^ tables[6][low >> 8 & 0xFF] ^ tables[5][low >> 16 & 0xFF] ^ tables[4][low >> 24]
            ^ tables[3][next[4]] ^ tables[2][next[5]] ^ tables[1][next[6]] ^ tables[0][next[7]];
    }
    for (; count > 0; count--, next++) value = value >> 8 ^ tables[0][(value ^ *next) & 0xFF];
    return ~value;
}

#if defined(__x86_64__)

bool martlet_crc32c_is_hardware(void) { return __builtin_cpu_supports("sse4.2"); }

#define INSTRUCTIONS __attribute__((target("sse4.2")))
#define CRC_8 _mm_crc32_u64
#define CRC_4 _mm_crc32_u32
#define CRC_2 _mm_crc32_u16
#define CRC_1 _mm_crc32_u8

#elif defined(__aarch64__) && defined(__linux__)

bool martlet_crc32c_is_hardware(void) { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }

#define INSTRUCTIONS __attribute__((target("crc")))
#define CRC_8 __crc32cd
#define CRC_4 __crc32cw
#define CRC_2 __crc32ch
#define CRC_1 __crc32cb

#else

bool martlet_crc32c_is_hardware(void) { return false; }

#endif

#if defined(INSTRUCTIONS)

INSTRUCTIONS static inline uint32_t extended(uint32_t value, const uint8_t *next, size_t count) {
    uint64_t wide = value;
    for (; count >= 8; count -= 8, next += 8) {
        uint64_t word;
        memcpy(&word, next, 8);
        wide = CRC_8((uint32_t)wide, word);
    }
    value = (uint32_t)wide;
    if (count & 4) {
        uint32_t word;
        memcpy(&word, next, 4);
        value = CRC_4(value, word);
        next += 4;
    }
    if (count & 2) {
        uint16_t word;
        memcpy(&word, next, 2);
        value = CRC_2(value, word);
        next += 2;
    }
    return count & 1 ? CRC_1(value, *next) : value;
}

INSTRUCTIONS static uint32_t by_instruction(uint32_t crc, const void *bytes, size_t count) {
    return ~extended(~crc, bytes, count);
}

INSTRUCTIONS static uint32_t parts_by_instruction(
    const void *first, size_t first_count, const void *second, size_t second_count, const void *third,
    size_t third_count) {
    uint32_t value = extended(~0u, first, first_count);
    value = extended(value, second, second_count);
    return ~extended(value, third, third_count);
}

INSTRUCTIONS static uint32_t finished(
    uint32_t value, const martlet_summed_record *record, size_t done, const void *tenant) {
    value = extended(value, (const uint8_t *)record->event + done, record->event_count - done);
    value = extended(value, tenant, 16);
    return ~extended(value, record->head, record->head_count);
}

INSTRUCTIONS static bool fits_by_instruction(const martlet_summed_record *records, size_t count, const void *tenant) {
    for (; count >= 3; count -= 3, records += 3) {
        const martlet_summed_record *a = records, *b = records + 1, *c = records + 2;
        size_t shared = a->event_count < b->event_count ? a->event_count : b->event_count;
        if (c->event_count < shared) shared = c->event_count;
        shared &= ~(size_t)7;
        uint64_t value_a = ~0u, value_b = ~0u, value_c = ~0u;
        const uint8_t *next_a = a->event, *next_b = b->event, *next_c = c->event;
        for (size_t done = 0; done < shared; done += 8) {
            uint64_t words[3];
            memcpy(&words[0], next_a + done, 8);
            memcpy(&words[1], next_b + done, 8);
            memcpy(&words[2], next_c + done, 8);
            value_a = CRC_8((uint32_t)value_a, words[0]);
            value_b = CRC_8((uint32_t)value_b, words[1]);
            value_c = CRC_8((uint32_t)value_c, words[2]);
        }
        uint32_t wrong = finished((uint32_t)value_a, a, shared, tenant) ^ a->checksum;
        wrong |= finished((uint32_t)value_b, b, shared, tenant) ^ b->checksum;
        wrong |= finished((uint32_t)value_c, c, shared, tenant) ^ c->checksum;
        if (wrong) return false;
    }
    for (; count > 0; count--, records++)
        if (finished(~0u, records, 0, tenant) != records->checksum) return false;
    return true;
}

#endif

uint32_t martlet_crc32c(uint32_t crc, const void *bytes, size_t count) {
#if defined(INSTRUCTIONS)
    if (martlet_crc32c_is_hardware()) return by_instruction(crc, bytes, count);
#endif
    return martlet_crc32c_by_table(crc, bytes, count);
}

uint32_t martlet_crc32c_of_parts(
    const void *first, size_t first_count, const void *second, size_t second_count, const void *third,
    size_t third_count) {
#if defined(INSTRUCTIONS)
    if (martlet_crc32c_is_hardware())
        return parts_by_instruction(first, first_count, second, second_count, third, third_count);
#endif
    uint32_t value = martlet_crc32c_by_table(0, first, first_count);
    value = martlet_crc32c_by_table(value, second, second_count);
    return martlet_crc32c_by_table(value, third, third_count);
}

bool martlet_crc32c_fits(const martlet_summed_record *records, size_t count, const void *tenant) {
#if defined(INSTRUCTIONS)
    if (martlet_crc32c_is_hardware()) return fits_by_instruction(records, count, tenant);
#endif
    for (; count > 0; count--, records++) {
        uint32_t value = martlet_crc32c_by_table(0, records->event, records->event_count);
        value = martlet_crc32c_by_table(value, tenant, 16);
        if (martlet_crc32c_by_table(value, records->head, records->head_count) != records->checksum) return false;
    }
    return true;
}
