"""A hospital's answers, how large they can be, and how many frames stand behind them."""
