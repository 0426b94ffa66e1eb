"""The cost of the server and of the driver without a framework."""
