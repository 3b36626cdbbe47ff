// EventWire
