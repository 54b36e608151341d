"""People who compare or rate answers: the page they work on, the store of their votes, and what the votes say."""
