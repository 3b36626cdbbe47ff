#pragma once
// SQLite's macros with casts are invisible to Swift; each one that is used stands here as a static inline.
#include <sqlite3.h>

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
