// EventWire: frames as bytes.
