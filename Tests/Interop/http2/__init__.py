"""How the server speaks HTTP/2: its conformance to RFC 9113 and RFC 7541, and how it bears floods.

Built on hyperframe and hpack alone: the h2 package refuses to send what a server must be able to refuse.
"""
