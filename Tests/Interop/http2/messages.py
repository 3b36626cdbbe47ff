"""RFC 9113, section 8: requests, their fields and pseudo-header fields; and what is HTTP but no call."""

from .clauses import OK, clause, stream_error
from .peer import DATA, END_HEADERS, END_STREAM, GET_HEAD, HEADERS, frame, request_fields, tenant_message

MALFORMED = stream_error("PROTOCOL_ERROR") + ("answer 400",)


def requests(name, number, sent, fields, *expected, content=None):
    """A test that sends one whole request."""
    def body(peer):
        return peer.outcome(peer.call(fields, content), waits=True)
    body.__name__ = name
    clause(number, sent, *expected)(body)


def plain(*more):
    return request_fields(GET_HEAD, *more)


def instead(name, value):
    return [(key, value if key == name else old) for key, old in request_fields()]


# 8.1: the order of frames, trailers, content-length

@clause("8.1", "a call with trailers", OK)
def trailers(peer):
    stream = peer.open()
    peer.send(frame(DATA, 0, stream, tenant_message()),
              peer.headers(stream, [("x-trailer", "1")], flags=END_HEADERS | END_STREAM))
    return peer.outcome(stream, waits=True)


@clause("8.1", "HEADERS after DATA, without END_STREAM", MALFORMED)
def trailers_without_end(peer):
    stream = peer.open()
    peer.send(frame(DATA, 0, stream, tenant_message()), peer.headers(stream, [("x-trailer", "1")]))
    return peer.outcome(stream)


@clause("8.1", "HEADERS twice, without END_STREAM", MALFORMED)
def request_twice(peer):
    stream = peer.open()
    peer.send(peer.headers(stream, request_fields()))
    return peer.outcome(stream)


@clause("8.1", "trailers with a pseudo-header field", MALFORMED)
def pseudo_in_trailers(peer):
    stream = peer.open()
    peer.send(frame(DATA, 0, stream, tenant_message()),
              peer.headers(stream, [(":path", GET_HEAD)], flags=END_HEADERS | END_STREAM))
    return peer.outcome(stream, waits=True)


@clause("8.1", "trailers with a field in upper case", MALFORMED)
def upper_case_in_trailers(peer):
    stream = peer.open()
    block = b"\x00\x09X-Trailer\x011"
    peer.send(frame(DATA, 0, stream, tenant_message()), frame(HEADERS, END_HEADERS | END_STREAM, stream, block))
    return peer.outcome(stream, waits=True)


@clause("8.1", "a call that ends with HEADERS: no message came", "answer 200, grpc-status 12", "answer 200, grpc-status 13")
def no_content(peer):
    return peer.outcome(peer.open(flags=END_HEADERS | END_STREAM), waits=True)


requests("length_right", "8.1.1", "content-length that is right", plain(("content-length", "23")), OK)
requests("length_too_long", "8.1.1", "content-length of one byte more than comes", plain(("content-length", "24")), MALFORMED)
requests("length_too_short", "8.1.1", "content-length of one byte less than comes", plain(("content-length", "22")),
         MALFORMED)
requests("length_no_number", "8.1.1", "content-length that is no number", plain(("content-length", "many")), MALFORMED)
requests("length_negative", "8.1.1", "content-length -1", plain(("content-length", "-1")), MALFORMED)
requests("length_twice", "8.1.1", "content-length twice, with two values",
         plain(("content-length", "23"), ("content-length", "24")), MALFORMED)


@clause("8.1.1", "content-length 1 on HEADERS with END_STREAM", MALFORMED)
def length_of_nothing(peer):
    return peer.outcome(peer.open(plain(("content-length", "1")), flags=END_HEADERS | END_STREAM), waits=True)


# 8.2: fields

@clause("8.2", "a field in upper case", MALFORMED)
def upper_case(peer):
    stream = peer.stream()
    block = peer.encoder.encode(request_fields()) + b"\x00\x06X-Test\x011"
    peer.send(frame(HEADERS, END_HEADERS, stream, block), frame(DATA, END_STREAM, stream, tenant_message()))
    return peer.outcome(stream, waits=True)


def field_bytes(name, number, sent, key, value, *expected):
    def body(peer):
        stream = peer.stream()
        block = peer.encoder.encode(request_fields()) + b"\x00" + bytes([len(key)]) + key + bytes([len(value)]) + value
        peer.send(frame(HEADERS, END_HEADERS, stream, block), frame(DATA, END_STREAM, stream, tenant_message()))
        return peer.outcome(stream, waits=True)
    body.__name__ = name
    clause(number, sent, *expected)(body)


field_bytes("name_with_space", "8.2.1", "a name with a space", b"x test", b"1", MALFORMED)
field_bytes("name_with_colon", "8.2.1", "a name with a colon inside", b"x:test", b"1", MALFORMED)
field_bytes("name_with_del", "8.2.1", "a name with byte 127", b"x\x7ftest", b"1", MALFORMED)
field_bytes("name_with_high_byte", "8.2.1", "a name with byte 128", b"x\x80test", b"1", MALFORMED)
field_bytes("name_empty", "8.2.1", "an empty name", b"", b"1", MALFORMED)
field_bytes("value_with_nul", "8.2.1", "a value with NUL", b"x-test", b"a\0b", MALFORMED)
field_bytes("value_with_lf", "8.2.1", "a value with LF", b"x-test", b"a\nb", MALFORMED)
field_bytes("value_with_cr", "8.2.1", "a value with CR", b"x-test", b"a\rb", MALFORMED)
field_bytes("value_begins_with_space", "8.2.1", "a value that begins with a space", b"x-test", b" a", MALFORMED)
field_bytes("value_ends_with_tab", "8.2.1", "a value that ends with a tab", b"x-test", b"a\t", MALFORMED)
field_bytes("value_empty", "8.2.1", "an empty value", b"x-test", b"", OK)
field_bytes("value_with_high_bytes", "8.2.1", "a value with bytes that are no UTF-8", b"x-test", b"\x80\xff", OK)

for _name, _value in [("connection", "close"), ("proxy-connection", "close"), ("keep-alive", "timeout=5"),
                      ("transfer-encoding", "chunked"), ("upgrade", "h2c")]:
    requests(f"field_{_name.replace('-', '_')}", "8.2.2", f"the field {_name}", plain((_name, _value)), MALFORMED)
requests("te_gzip", "8.2.2", "te: trailers, deflate", request_fields(GET_HEAD, ("te", "trailers, deflate"), without=["te"]),
         MALFORMED)
requests("without_te", "8.2.2", "a call without te", request_fields(GET_HEAD, without=["te"]), OK)
requests("cookies", "8.2.3", "two cookie fields", plain(("cookie", "a=b"), ("cookie", "c=d")), OK)

# 8.3: pseudo-header fields

for _name in [":method", ":scheme", ":path"]:
    requests(f"without_{_name[1:]}", "8.3.1", f"no {_name}", request_fields(GET_HEAD, without=[_name]), MALFORMED)
    requests(f"{_name[1:]}_twice", "8.3.1", f"{_name} twice",
             [field for field in request_fields() if field[0] == _name] + request_fields(), MALFORMED)
requests("without_authority", "8.3.1", "no :authority, and host", request_fields(
    GET_HEAD, ("host", "localhost"), without=[":authority"]), OK)
requests("authority_twice", "8.3.1", ":authority twice", [(":authority", "localhost")] + request_fields(), MALFORMED)
requests("path_empty", "8.3.1", "an empty :path", instead(":path", ""), MALFORMED)
requests("path_without_slash", "8.3.1", "a :path that does not begin with /", instead(":path", GET_HEAD[1:]), MALFORMED,
         "answer 200, grpc-status 12")
requests("unknown_pseudo", "8.3", "an undefined pseudo-header field", [(":whatever", "1")] + request_fields(), MALFORMED)
requests("response_pseudo", "8.3", ":status in a request", [(":status", "200")] + request_fields(), MALFORMED)
requests("pseudo_last", "8.3", "a pseudo-header field after another field",
         request_fields(GET_HEAD, (":path", GET_HEAD), without=[":path"]), MALFORMED)
requests("protocol_unasked", "8.3, RFC 8441 3", ":protocol, which the server has not allowed",
         [(":protocol", "websocket")] + instead(":method", "CONNECT"), MALFORMED)
requests("host_contradicts", "8.3.1", ":authority and a host that says something else", plain(("host", "elsewhere")),
         OK, MALFORMED)

# 8.5: CONNECT

requests("connect", "8.5", "CONNECT to a host, which the server does not serve",
         [(":method", "CONNECT"), (":authority", "localhost:80")], "answer 404", "answer 405", "answer 415", "answer 501",
         stream_error("CONNECT_ERROR", "REFUSED_STREAM"))
requests("connect_with_path", "8.5", "CONNECT with :scheme and :path", instead(":method", "CONNECT"), MALFORMED)
requests("connect_without_authority", "8.5", "CONNECT without :authority", [(":method", "CONNECT")], MALFORMED)

# What is no call

requests("other_content", "gRPC", "POST with content-type application/json to a method's path",
         instead("content-type", "application/json"), "answer 415")
requests("no_content_type", "gRPC", "POST without content-type to a method's path",
         request_fields(GET_HEAD, without=["content-type"]), "answer 415")
requests("get_method_path", "gRPC", "GET with content-type application/grpc to a method's path", instead(":method", "GET"),
         "answer 405", "answer 415")
requests("get_root", "gRPC", "GET /", [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "localhost")],
         "answer 404")
requests("unknown_method", "gRPC", "a method that the service does not have", instead(":path", GET_HEAD + "s"),
         "answer 200, grpc-status 12")
requests("unknown_service", "gRPC", "a service that is not there", instead(":path", "/a.B/C"), "answer 200, grpc-status 12")
requests("unknown_encoding", "gRPC", "grpc-encoding snappy", plain(("grpc-encoding", "snappy")), "answer 200, grpc-status 12")
requests("bad_timeout", "gRPC", "grpc-timeout that is no time", plain(("grpc-timeout", "soon")),
         "answer 200, grpc-status 3", "answer 200, grpc-status 13")
requests("bad_flag", "gRPC", "a message whose flag byte is 2", plain(), "answer 200, grpc-status 13",
         content=b"\x02" + tenant_message()[1:])
requests("cut_message", "gRPC", "a stream that ends inside a message", plain(), "answer 200, grpc-status 13",
         "answer 200, grpc-status 3", content=tenant_message()[:-1])
requests("two_messages", "gRPC", "two messages for a method that takes one", plain(), "answer 200, grpc-status 12",
         "answer 200, grpc-status 13", "answer 200, grpc-status 3", content=tenant_message() * 2)
requests("no_protobuf", "gRPC", "a message that is no protobuf", plain(), "answer 200, grpc-status 3",
         "answer 200, grpc-status 13", content=b"\0\0\0\0\x04\xff\xff\xff\xff")
requests("unexpected_compression", "gRPC", "a compressed message without grpc-encoding", plain(),
         "answer 200, grpc-status 13", content=b"\x01" + tenant_message()[1:])
