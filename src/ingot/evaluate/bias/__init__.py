"""Bias and neutrality: published suites, counterfactual groups as data, evenness of political statements."""
