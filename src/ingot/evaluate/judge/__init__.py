"""A model as judge of answers: asked in both orders, held to a verdict, and measured for its own bias."""
