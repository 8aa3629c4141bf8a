"""The researcher's rooms: a whole federation in one process, and the paper's experiment."""
