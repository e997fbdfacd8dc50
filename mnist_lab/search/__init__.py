"""How step 3 was chosen: what else it could have been, tried on held-out images, and how far it can shrink."""
