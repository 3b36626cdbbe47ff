// EventProtocol
