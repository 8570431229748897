"""The only room that prints, prompts, reads the environment or exits."""
