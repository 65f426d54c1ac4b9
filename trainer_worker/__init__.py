"""From data and a base model to a model or an adapter."""
