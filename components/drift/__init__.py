"""What images look like in numbers, and how far apart two sets of them may be."""
