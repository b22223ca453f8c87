"""Text, charts, PDF reports and agreement statistics."""
