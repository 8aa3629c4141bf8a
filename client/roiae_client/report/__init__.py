"""A hospital's own report of a model, with its own frames. It stays in the hospital."""
