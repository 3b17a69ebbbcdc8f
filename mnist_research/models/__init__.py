"""The networks, and what a network may be: registered here, or in a file of the user's own."""
