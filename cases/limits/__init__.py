"""What one person, and all together, may use."""
