// EventEncoding
