// EventTesting
