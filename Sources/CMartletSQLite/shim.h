#pragma once
// SQLite's macros with casts are invisible to Swift; each one that is used stands here as a static inline.
#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

// Locks the open file, under whatever name, against other open files of it, with a byte far behind those that SQLite
// locks. The lock goes with the descriptor alone (F_OFD_SETLK, which headers hide without _GNU_SOURCE). 0, or -1.
static inline int martlet_lock_database(int descriptor) {
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0x7FFFFFFFFFFFFF00, .l_len = 1};
  return fcntl(descriptor, 37, &lock);
}

// Closing the connection moves nothing out of the write-ahead log, even if no other connection is left.
static inline int martlet_sqlite_keep_log(sqlite3 *database) {
  return sqlite3_db_config(database, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)0);
}

// The bytes must stay as they are until the statement is reset.
static inline int martlet_sqlite_bind_blob_static(sqlite3_stmt *statement, int index, const void *bytes, int count) {
  return sqlite3_bind_blob(statement, index, bytes ? bytes : "", count, SQLITE_STATIC);
}
// SQLite copies the bytes.
static inline int martlet_sqlite_bind_blob_copy(sqlite3_stmt *statement, int index, const void *bytes, int count) {
  return sqlite3_bind_blob(statement, index, bytes ? bytes : "", count, SQLITE_TRANSIENT);
}
static inline int martlet_sqlite_bind_text_copy(sqlite3_stmt *statement, int index, const char *bytes, int count) {
  return sqlite3_bind_text(statement, index, bytes, count, SQLITE_TRANSIENT);
}
