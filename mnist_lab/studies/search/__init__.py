"""How step 3 was chosen: its recipe with one thing changed, on held-out images, and how far it can shrink."""
