"""What tuning makes a model forget: text of another kind and the world's questions, before and after."""
