"""A run: its steps, its folder, its checks of replies, and the domain shift. Knows neither Flower nor a network."""
