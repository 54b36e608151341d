"""Other distributions than the model's own, made of two: its layers' (DoLa), or those behind two prompts (guidance)."""
