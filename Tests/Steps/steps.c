// Counts what a process asks of the C library: loaded before it by LD_PRELOAD. The counters lie in the file that
// MARTLET_STEPS names, which another process reads; see StepTests.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALLOCATIONS, COPIES, COPIED_BYTES, WAKEUPS, SIGNALS, COUNTERS };

// A copy of less is not worth counting: keys, lengths, ids.
enum { COPY_MIN = 128 };

static atomic_ullong early[COUNTERS];
static atomic_ullong *counters = early;

static void add(int counter, unsigned long long count) {
  atomic_fetch_add_explicit(&counters[counter], count, memory_order_relaxed);
}

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("MARTLET_STEPS");
  int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *shared = mmap(NULL, sizeof early, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (shared != MAP_FAILED) counters = shared;
  close(file);
}

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

void *malloc(size_t size) {
  add(ALLOCATIONS, 1);
  return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
  add(ALLOCATIONS, 1);
  return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
  add(ALLOCATIONS, 1);
  return __libc_realloc(old, size);
}

int posix_memalign(void **result, size_t alignment, size_t size) {
  add(ALLOCATIONS, 1);
  void *memory = __libc_memalign(alignment, size);
  if (!memory) return 12;
  *result = memory;
  return 0;
}

void *aligned_alloc(size_t alignment, size_t size) {
  add(ALLOCATIONS, 1);
  return __libc_memalign(alignment, size);
}

static void *copy(void *to, const void *from, size_t count) {
  if (count >= COPY_MIN) {
    add(COPIES, 1);
    add(COPIED_BYTES, count);
  }
  volatile uint8_t *target = to;
  const uint8_t *source = from;
  if (target <= source || target >= source + count) {
    for (size_t at = 0; at < count; at++) target[at] = source[at];
  } else {
    for (size_t at = count; at > 0; at--) target[at - 1] = source[at - 1];
  }
  return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t count) { return copy(to, from, count); }

void *memmove(void *to, const void *from, size_t count) { return copy(to, from, count); }

ssize_t write(int file, const void *bytes, size_t count) {
  static ssize_t (*next)(int, const void *, size_t);
  if (!next) next = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
  // A loop is woken by eight bytes.
  if (count == 8) add(WAKEUPS, 1);
  return next(file, bytes, count);
}

int eventfd_write(int file, uint64_t value) { return write(file, &value, 8) == 8 ? 0 : -1; }

int pthread_cond_signal(pthread_cond_t *condition) {
  static int (*next)(pthread_cond_t *);
  if (!next) next = (int (*)(pthread_cond_t *))dlsym(RTLD_NEXT, "pthread_cond_signal");
  add(SIGNALS, 1);
  return next(condition);
}

int pthread_cond_broadcast(pthread_cond_t *condition) {
  static int (*next)(pthread_cond_t *);
  if (!next) next = (int (*)(pthread_cond_t *))dlsym(RTLD_NEXT, "pthread_cond_broadcast");
  add(SIGNALS, 1);
  return next(condition);
}
