"""The HTTP API: prediction calls compatible with the upstream demo, and versioned resources."""
