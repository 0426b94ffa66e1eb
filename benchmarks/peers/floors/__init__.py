"""What the server and the driver cost without any framework."""
