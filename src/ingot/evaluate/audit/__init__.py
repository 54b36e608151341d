"""What a model's training corpus gives away: benchmarks in it, passages learnt by heart, who was a member."""
