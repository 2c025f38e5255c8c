"""What a strategy does while training, family by family as in `spaces`, and what a receipt says of it."""
