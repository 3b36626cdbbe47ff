// `import Martlet` is all that a user of the client and of the aggregates needs.
@_exported public import FoundationEssentials
@_exported public import Logging
@_exported public import MartletClient
@_exported public import MartletEventSourcing
@_exported public import MartletModel
@_exported public import MartletTLSOpenSSL
@_exported public import NIOCore
