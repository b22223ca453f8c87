"""Sign-up, sign-in, sessions and API tokens."""
