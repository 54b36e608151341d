"""Preference tuning: what is learnt from pairs of answers, or from answers labelled good and bad."""
