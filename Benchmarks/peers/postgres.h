// The SQL of both ways to keep events in PostgreSQL.
#pragma once

// A ceiling: what an INSERT of an event costs with the two indexes that loading and reading take. Nothing checks which
// version a writer expected beyond the unique index, and nothing makes positions appear in the order of commits.
static const char plainSchema[] =
    "DROP TABLE IF EXISTS events;"
    "CREATE TABLE events ("
    "  position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    "  stream uuid NOT NULL, version bigint NOT NULL, id uuid NOT NULL, type text NOT NULL,"
    "  metadata bytea NOT NULL, payload bytea NOT NULL,"
    "  UNIQUE (stream, version))";

static const char plainInsert[] = "INSERT INTO events (stream, version, id, type, metadata, payload) VALUES ";

static const char plainLoad[] =
    "SELECT position, version, id, type, metadata, payload FROM events WHERE stream = $1::uuid ORDER BY version";

static const char plainPage[] =
    "SELECT position, stream, version, id, type, metadata, payload FROM events WHERE position > $1::int8"
    " ORDER BY position LIMIT %d";

// The method of message-db, written from its description: messages with the ids unique, positions without a gap in
// their stream, an index by category; a function that takes an advisory lock for the category, compares the version,
// and inserts one message.
static const char messageDBSchema[] =
    "DROP TABLE IF EXISTS messages;"
    "CREATE TABLE messages ("
    "  global_position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    "  id uuid NOT NULL UNIQUE, stream_name text NOT NULL, position bigint NOT NULL, type text NOT NULL,"
    "  data jsonb, metadata jsonb, time timestamptz NOT NULL DEFAULT now(),"
    "  UNIQUE (stream_name, position));"
    "CREATE INDEX ON messages (split_part(stream_name, '-', 1), global_position);"
    "CREATE OR REPLACE FUNCTION write_event("
    "  new_id uuid, stream text, new_type text, new_data jsonb, new_metadata jsonb, expected bigint"
    ") RETURNS bigint LANGUAGE plpgsql AS $$"
    "DECLARE"
    "  latest bigint;"
    "BEGIN"
    "  PERFORM pg_advisory_xact_lock(hashtextextended(split_part(stream, '-', 1), 0));"
    "  SELECT position INTO latest FROM messages WHERE stream_name = stream ORDER BY position DESC LIMIT 1;"
    "  latest := coalesce(latest, -1);"
    "  IF latest <> expected THEN"
    "    RAISE EXCEPTION 'stream % is at version %, not %', stream, latest, expected;"
    "  END IF;"
    "  INSERT INTO messages (id, stream_name, position, type, data, metadata)"
    "  VALUES (new_id, stream, latest + 1, new_type, new_data, new_metadata);"
    "  RETURN latest + 1;"
    "END $$";

static const char messageDBWrite[] = "SELECT write_event($1::uuid, $2, $3, $4::jsonb, $5::jsonb, $6::int8)";
