// EventHub
