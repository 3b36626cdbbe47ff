"""RFC 7541: what is wrong with a field block ends the connection with COMPRESSION_ERROR, since the tables differ then."""

from .clauses import OK, clause, goaway, stream_error
from .peer import (
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADER_LIST_SIZE, HEADERS, frame, request_fields, tenant_message)

COMPRESSION = goaway("COMPRESSION_ERROR")


def block(name, number, sent, made, *expected):
    """A test that sends a call whose block is a good one, with bytes before or after it."""
    def body(peer):
        stream = peer.stream()
        peer.send(frame(HEADERS, END_HEADERS, stream, made(peer.encoder.encode(request_fields()))),
                  frame(DATA, END_STREAM, stream, tenant_message()))
        return peer.outcome(stream, waits=True)
    body.__name__ = name
    clause(number, sent, *expected)(body)


def after(more):
    return lambda good: good + more


def before(more):
    return lambda good: more + good


def integer(value, bits, first=0):
    """An integer with a prefix of so many bits."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    coded = [first | most]
    value -= most
    while value >= 128:
        coded.append(value & 127 | 128)
        value >>= 7
    return bytes(coded + [value])


block("index_0", "RFC 7541 6.1", "index 0", after(b"\x80"), COMPRESSION)
block("index_beyond", "RFC 7541 2.3.3", "an index one beyond both tables", after(integer(61 + 7, 7, 0x80)), COMPRESSION)
block("index_far_beyond", "RFC 7541 2.3.3", "index 1,000,000", after(integer(1_000_000, 7, 0x80)), COMPRESSION)
block("name_index_beyond", "RFC 7541 2.3.3", "a name's index beyond both tables", after(integer(1_000, 4) + b"\x01x"),
      COMPRESSION)
block("integer_overflow", "RFC 7541 5.1", "an index of 2^70", after(b"\xff" + b"\xff" * 9 + b"\x7f"), COMPRESSION)
block("integer_with_zeros", "RFC 7541 5.1", "an index of 30 bytes, most of them 0", after(b"\xff" + b"\x80" * 29 + b"\x00"),
      COMPRESSION)
block("integer_cut", "RFC 7541 5.1", "an index that is cut off", after(b"\xff\x80"), COMPRESSION)
block("string_beyond", "RFC 7541 5.2", "a name longer than the block", after(b"\x00\x7ex"), COMPRESSION)
block("string_of_gigabytes", "RFC 7541 5.2", "a value that is said to have 2^31 bytes",
      after(b"\x00\x01x" + integer(1 << 31, 7)), COMPRESSION)
block("value_missing", "RFC 7541 6.2.2", "a name without a value", after(b"\x00\x01x"), COMPRESSION)
# "a" is 00011 in Huffman's code; what fills the byte is ones.
block("huffman_right", "RFC 7541 5.2", "a value in Huffman's code", after(b"\x00\x01x\x81\x1f"), OK)
block("huffman_padding_zeros", "RFC 7541 5.2", "a value in Huffman's code, filled with zeros", after(b"\x00\x01x\x81\x18"),
      COMPRESSION)
block("huffman_padding_long", "RFC 7541 5.2", "a value in Huffman's code, filled with 11 ones",
      after(b"\x00\x01x\x82\x1f\xff"), COMPRESSION)
block("huffman_eos", "RFC 7541 5.2", "a value in Huffman's code with EOS", after(b"\x00\x01x\x84\xff\xff\xff\xff"),
      COMPRESSION)
block("table_size_within", "RFC 7541 6.3", "table sizes 0 and 4,096 before the first field",
      before(b"\x20" + integer(4_096, 5, 0x20)), OK)
block("table_size_beyond", "RFC 7541 6.3", "table size 4,097, which is beyond SETTINGS_HEADER_TABLE_SIZE",
      before(integer(4_097, 5, 0x20)), COMPRESSION)
block("table_size_late", "RFC 7541 4.2", "a table size after a field", after(b"\x20"), COMPRESSION)
block("never_indexed", "RFC 7541 6.2.3", "a field that is never indexed", after(b"\x10\x06x-test\x011"), OK)


@clause("RFC 7541 4.4", "a field larger than the table: it empties the table, and the call is carried out", OK, alone=True)
def large_entry(peer):
    stream = peer.stream()
    whole = peer.encoder.encode(request_fields()) + b"\x40\x06x-test" + integer(5_000, 7) + b"a" * 5_000
    peer.send(frame(HEADERS, END_HEADERS, stream, whole), frame(DATA, END_STREAM, stream, tenant_message()))
    return peer.outcome(stream, waits=True)


@clause("RFC 7541 4.4", "an index of the table after a field larger than the table", COMPRESSION)
def emptied_table(peer):
    peer.outcome(peer.call(), waits=True)
    stream = peer.stream()
    whole = b"\x83\x87\x40\x06x-test" + integer(5_000, 7) + b"a" * 5_000 + b"\xbe"
    peer.send(frame(HEADERS, END_HEADERS, stream, whole))
    return peer.outcome(stream, waits=True)


@clause("RFC 7541 4.3", "an index of the table after table size 0", COMPRESSION)
def table_of_nothing(peer):
    peer.outcome(peer.call(), waits=True)
    peer.send(frame(HEADERS, END_HEADERS, peer.stream(), b"\x20\xbe"))
    return peer.outcome()


@clause("RFC 7541 4.4", "200 calls with a new field each: old ones leave the table", OK)
def table_turns_over(peer):
    for number in range(200):
        outcome = peer.outcome(
            peer.call(request_fields("/martlet.v1.QueryService/GetHead", (f"x-{number}", "v" * 100))), waits=True)
        if outcome != OK:
            break
    return outcome


REFUSED = ("answer 431",) + stream_error("REFUSED_STREAM", "PROTOCOL_ERROR", "ENHANCE_YOUR_CALM", "CANCEL") + goaway(
    "ENHANCE_YOUR_CALM", "PROTOCOL_ERROR", "COMPRESSION_ERROR")


@clause("10.5.1", "fields of SETTINGS_MAX_HEADER_LIST_SIZE, within it", OK)
def fields_within_limit(peer):
    room = peer.settings[HEADER_LIST_SIZE] - sum(32 + len(name) + len(value) for name, value in request_fields())
    return peer.outcome(
        peer.call(request_fields("/martlet.v1.QueryService/GetHead", ("x-test", "v" * (room - 32 - 6)))), waits=True)


@clause("10.5.1", "fields of one byte more than SETTINGS_MAX_HEADER_LIST_SIZE: that request is refused", REFUSED)
def fields_beyond_limit(peer):
    room = peer.settings[HEADER_LIST_SIZE] - sum(32 + len(name) + len(value) for name, value in request_fields())
    stream = peer.stream()
    whole = peer.encoder.encode(
        request_fields("/martlet.v1.QueryService/GetHead", ("x-test", "v" * (room - 32 - 5))), huffman=True)
    peer.send(frame(HEADERS, 0, stream, whole[:16_000]), frame(CONTINUATION, END_HEADERS, stream, whole[16_000:]))
    return peer.outcome(stream)
