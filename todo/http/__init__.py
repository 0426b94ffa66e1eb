"""What every resource borrows of HTTP: problems, validated requests, pages, tags, and the contract as a document."""
