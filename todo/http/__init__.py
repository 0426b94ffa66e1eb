"""The HTTP layer of every resource: problems, validated requests, pagination, ETags, and the OpenAPI document."""
