// EventServer
