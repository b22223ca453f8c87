"""From an upload to a stored image, and back."""
