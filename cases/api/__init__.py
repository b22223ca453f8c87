"""The API: prediction calls as upstream's clients know them, and resources for integration."""
