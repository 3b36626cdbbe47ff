// All that a user of the client and of the aggregate library imports. Not `Martlet`, which some file systems do not
// tell from the program `martlet`.
@_exported public import MartletClient
@_exported public import MartletEventSourcing
@_exported public import MartletModel
@_exported public import MartletTLSOpenSSL
@_exported public import NIOCore
