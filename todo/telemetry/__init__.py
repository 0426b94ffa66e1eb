"""What operators see of the service: one record for each request, the log, trace ids and metrics."""
