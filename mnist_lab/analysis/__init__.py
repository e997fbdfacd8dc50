"""What trained networks get wrong, how sure they are, and what they see: the matter of five notebooks of evidence."""
